// The highlighter does not know Rhai; its words are those of Rust.
for (const block of document.querySelectorAll("code.language-rhai")) {
    block.classList.replace("language-rhai", "language-rust");
    hljs.highlightBlock(block);
}
