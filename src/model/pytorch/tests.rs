//! The reader of pickles by itself; whole files are tested in tests/pytorch.rs.

use super::object::{Heap, Id, Object};
use super::unpickle::{Pickle, unpickle};
use super::*;
use proptest::prelude::*;
use std::io::{Cursor, Read, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(compresso_test_support::fixture("pytorch").join(name)).unwrap()
}

/// An object as text, for comparison.
fn shown(heap: &Heap, id: Id) -> String {
    let list = |items: &[Id]| items.iter().map(|&i| shown(heap, i)).collect::<Vec<_>>().join(", ");
    let map = |e: &[(Id, Id)]| e.iter().map(|(k, v)| format!("{}: {}", shown(heap, *k), shown(heap, *v))).collect::<Vec<_>>().join(", ");
    match heap.get(id) {
        Object::None => "None".into(),
        Object::Bool(b) => b.to_string(),
        Object::Int(i) => i.to_string(),
        Object::Long(b) => format!("long of {} bytes", b.len()),
        Object::Float(f) => f.to_string(),
        Object::Text(t) => format!("{t:?}"),
        Object::Bytes(b) => format!("b{b:?}"),
        Object::Tuple(items) => format!("({})", list(items)),
        Object::List(items) => format!("[{}]", list(items)),
        Object::Set(items) => format!("{{{}}}", list(items)),
        Object::Dict(e) => format!("{{{}}}", map(e)),
        Object::Global(g) => g.to_string(),
        Object::Record(r) => {
            let state = r.state.map_or(String::new(), |s| format!(" state {}", shown(heap, s)));
            format!("{}{}{state} [{}] {{{}}}", shown(heap, r.class), shown(heap, r.args), list(&r.items), map(&r.entries))
        }
        Object::Persistent(id) => format!("persistent {}", shown(heap, *id)),
    }
}

fn read(pickle: &[u8]) -> String {
    match unpickle(pickle) {
        Ok(Pickle { heap, root, length }) if length == pickle.len() => shown(&heap, root),
        Ok(p) => format!("read {} of {} bytes", p.length, pickle.len()),
        Err(e) => e.to_string(),
    }
}

#[test]
fn all_protocols_give_the_same_plain_data() {
    // pickle.dumps({"a": [1, -2, 300, 70000, 2**40, 1.5, True, None], "b": (b"\xff", "é", (), {3})}, protocol)
    let expected = "{\"a\": [1, -2, 300, 70000, 1099511627776, 1.5, true, None], \"b\": (";
    for (protocol, pickle) in PLAIN {
        let got = read(pickle);
        assert!(got.starts_with(expected), "protocol {protocol}: {got}");
        assert!(got.contains("\"é\", (), "), "protocol {protocol}: {got}");
    }
}

/// The same object in all protocols, as Python 3.11 writes it.
const PLAIN: [(u8, &[u8]); 6] = [
    (0, b"(dp0\x0aVa\x0ap1\x0a(lp2\x0aI1\x0aaI-2\x0aaI300\x0aaI70000\x0aaL1099511627776L\x0aaF1.5\x0aaI01\x0aaNasVb\x0ap3\x0a(c_codecs\x0aencode\x0ap4\x0a(V\xff\x0ap5\x0aVlatin1\x0ap6\x0atp7\x0aRp8\x0aV\xe9\x0ap9\x0a(tc__builtin__\x0aset\x0ap10\x0a((lp11\x0aI3\x0aatp12\x0aRp13\x0atp14\x0as."),
    (1, b"}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00L1099511627776L\x0aG?\xf8\x00\x00\x00\x00\x00\x00I01\x0aNeX\x01\x00\x00\x00bq\x03(c_codecs\x0aencode\x0aq\x04(X\x02\x00\x00\x00\xc3\xbfq\x05X\x06\x00\x00\x00latin1q\x06tq\x07Rq\x08X\x02\x00\x00\x00\xc3\xa9q\x09)c__builtin__\x0aset\x0aq\x0a(]q\x0bK\x03atq\x0cRq\x0dtq\x0eu."),
    (2, b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00\x88NeX\x01\x00\x00\x00bq\x03(c_codecs\x0aencode\x0aq\x04X\x02\x00\x00\x00\xc3\xbfq\x05X\x06\x00\x00\x00latin1q\x06\x86q\x07Rq\x08X\x02\x00\x00\x00\xc3\xa9q\x09)c__builtin__\x0aset\x0aq\x0a]q\x0bK\x03a\x85q\x0cRq\x0dtq\x0eu."),
    (3, b"\x80\x03}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00\x88NeX\x01\x00\x00\x00bq\x03(C\x01\xffq\x04X\x02\x00\x00\x00\xc3\xa9q\x05)cbuiltins\x0aset\x0aq\x06]q\x07K\x03a\x85q\x08Rq\x09tq\x0au."),
    (4, b"\x80\x04\x95F\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00\x88Ne\x8c\x01b\x94(C\x01\xff\x94\x8c\x02\xc3\xa9\x94)\x8f\x94(K\x03\x90t\x94u."),
    (5, b"\x80\x05\x95F\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00\x88Ne\x8c\x01b\x94(C\x01\xff\x94\x8c\x02\xc3\xa9\x94)\x8f\x94(K\x03\x90t\x94u."),
];

#[test]
fn objects_are_records_with_attributes_and_items() {
    let text = read(b"ctorch.nn\nLinear\n)\x81}X\x01\x00\x00\x00nK\x05sb.");
    assert_eq!(text, "torch.nn.Linear() state {\"n\": 5} [] {}");
    let text = read(b"ccollections\nOrderedDict\n)R(K\x01K\x02u.");
    assert_eq!(text, "collections.OrderedDict() [] {1: 2}");
    assert_eq!(read(b"\x80\x02X\x01\x00\x00\x00sQ."), "persistent \"s\"");
}

#[test]
fn damaged_pickles_are_errors_with_their_place() {
    for (pickle, said) in [
        (b"".as_slice(), "byte 0 of the pickle: the pickle ends too early"),
        (b".", "the stack is empty"),
        (b"(1.", "the stack is empty"),
        (b"t.", "there is no mark"),
        (b"h\x07.", "the memo has nothing at 7"),
        (b"}K\x01K\x02K\x03b.", "the attributes of what is no object"),
        (b"K\x01K\x02a.", "appends to what is no list"),
        (b"}(K\x01u.", "a key without a value"),
        (b"K\x01)R.", "calls what is no class"),
        (b"\x80\x09.", "version 9"),
        (b"\x82\x01.", "extension registry"),
        (b"\x97.", "buffers outside"),
        (b"X\x02\x00\x00\x00\xff\xff.", "not UTF-8"),
        (b"\x8b\xff\xff\xff\xff.", "negative"),
        (b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "ends too early"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "ends too early"),
        (b"Iten\n.", "not a whole number"),
        (b"?", "0x3f is no opcode"),
    ] {
        let got = read(pickle);
        assert!(got.contains(said), "{pickle:?}: {got}");
    }
    assert!(read(&[b"(".repeat(20_000), b".".to_vec()].concat()).contains("nested more than"));
}

/// A folded network names `forward_fuse` of its modules by `getattr`; nothing else may be named so.
#[test]
fn attributes_are_taken_of_networks_only_and_by_known_names() {
    let named = |target: &str, name: &str| read(format!("cbuiltins\ngetattr\n({target}S'{name}'\ntR.").as_bytes());
    let module = "cultralytics.nn\nConv\n)R";
    assert_eq!(named(module, "forward_fuse"), "builtins.getattr(ultralytics.nn.Conv() [] {}, \"forward_fuse\") [] {}");
    for (target, name) in [
        (module, "__class__"),
        ("cultralytics.nn\nConv\n", "forward_fuse"),
        ("ccollections\nOrderedDict\n)R", "forward"),
        ("S'x'\n", "forward"),
    ] {
        let said = named(target, name);
        assert!(said.contains("it names builtins.getattr"), "{said}");
    }
    for pickle in ["cbuiltins\ngetattr\n.", "(cbuiltins\ngetattr\nt.", "]cbuiltins\ngetattr\na.", "ctorch\nSize\n(cbuiltins\ngetattr\ntR."]
    {
        let said = read(pickle.as_bytes());
        assert!(said.contains("it names builtins.getattr"), "{said}");
    }
}

#[test]
fn a_network_in_itself_ends() {
    // A module whose child `a` is the module.
    let pickle = b"ctorch.nn\nModule\n)\x81q\x00}(X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x00sX\x0b\x00\x00\x00_parameters}ub.";
    let e = Checkpoint::parse(archive_of(pickle, &[]).into()).unwrap();
    let e = e.state_dict(e.root).unwrap_err();
    assert!(e.to_string().contains("nested too deeply"), "{e}");
}

fn archive_of(pickle: &[u8], data: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [("x/data.pkl".to_string(), pickle.to_vec())].iter().chain(data) {
        archive.start_file(name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A file of one tensor over a storage of four floats; `view` is its offset, size and stride.
fn one_tensor(view: &str) -> Result<IndexMap<String, Constant>> {
    let storage = "(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ";
    let pickle = format!("(dS'x'\nctorch._utils\n_rebuild_tensor_v2\n({storage}{view}I00\nNtRs.");
    let data = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let c = Checkpoint::parse(archive_of(pickle.as_bytes(), &[("x/data/0".into(), data)]).into())?;
    match c.content()? {
        Content::Tensors(dict) => c.tensors(dict),
        Content::Module(_) => unreachable!("a dict is no network"),
    }
}

#[test]
fn views_stay_inside_of_their_storage() {
    let values = |view: &str| one_tensor(view).map(|t| t["x"].to_f32s().unwrap());
    assert_eq!(values("I0\n(I4\nt(I1\nt").unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(values("I1\n(I2\nt(I2\nt").unwrap(), [2.0, 4.0]);
    assert_eq!(values("I0\n(I2\nI2\nt(I1\nI2\nt").unwrap(), [1.0, 3.0, 2.0, 4.0]);
    assert_eq!(values("I3\n(I3\nt(I0\nt").unwrap(), [4.0, 4.0, 4.0]);
    for view in [
        "I1\n(I4\nt(I1\nt",
        "I0\n(I2\nt(I4\nt",
        "I4\n(I1\nt(I1\nt",
        "I-1\n(I1\nt(I1\nt",
        "I0\n(I2\nt(I-1\nt",
        "I0\n(I2\nI2\nt(I1\nt",
        "I0\n(I9223372036854775807\nI9223372036854775807\nt(I0\nI0\nt",
        "I9223372036854775807\n(I2\nt(I9223372036854775807\nt",
    ] {
        let e = one_tensor(view).unwrap_err();
        assert_eq!(e.kind(), compresso_base::ErrorKind::Format, "{view}: {e}");
    }
    // One element, a billion times: far more than the file.
    let e = one_tensor("I0\n(I1000000000\nt(I0\nt").unwrap_err();
    assert!(e.to_string().contains("far more memory than the file"), "{e}");
}

/// The pickle and the other entries of a file of torch.save.
fn taken_apart(file: &str) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let mut archive = ZipArchive::new(Cursor::new(fixture(file))).unwrap();
    let (mut pickle, mut data) = (Vec::new(), Vec::new());
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).unwrap();
        let name = entry.name().unwrap().split_once('/').unwrap().1.to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if name == "data.pkl" { pickle = bytes } else { data.push((format!("x/{name}"), bytes)) }
    }
    (pickle, data)
}

/// Reads all that can be read of a file.
fn exhaust(bytes: Vec<u8>) {
    let Ok(c) = Checkpoint::parse(bytes.into()) else { return };
    match c.content() {
        Ok(Content::Module(network)) => {
            let _ = c.state_dict(network);
        }
        Ok(Content::Tensors(dict)) => {
            let _ = c.tensors(dict);
        }
        Err(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn mutated_pickles_never_panic(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>(), whole in any::<bool>()) {
        for file in ["tensors.pth", "yolov8_cls.pt"] {
            let (mut pickle, data) = taken_apart(file);
            for (at, byte) in &places {
                let at = at.index(pickle.len());
                pickle[at] = *byte;
            }
            if !whole {
                pickle.truncate(cut.index(pickle.len()));
            }
            exhaust(archive_of(&pickle, &data));
        }
        let mut legacy = fixture("legacy.pth");
        for (at, byte) in &places {
            let at = at.index(legacy.len());
            legacy[at] = *byte;
        }
        exhaust(legacy);
    }

    #[test]
    fn random_opcodes_never_panic(bytes in prop::collection::vec(prop::sample::select(b"()[]{}.012NKhqtldaesuRQbc\n\x80\x81\x85\x86\x87\x88\x8c\x8f\x90\x91\x92\x93\x94\x95ioSVIFJXx\x01\x02".to_vec()), 0..200)) {
        let _ = unpickle(&bytes);
        exhaust(archive_of(&bytes, &[]));
    }
}

#[test]
fn a_mutated_network_never_panics_when_built() {
    let (pickle, data) = taken_apart("yolov8.pt");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pt");
    let mut built = 0;
    for at in (7..pickle.len()).step_by(379) {
        let mut changed = pickle.clone();
        changed[at] ^= 0x15;
        std::fs::write(&path, archive_of(&changed, &data)).unwrap();
        built += usize::from(load(&path, &crate::LoadOptions::default()).is_ok());
    }
    assert!(built > 0, "all changes were fatal, so nothing was built");
    std::fs::write(&path, archive_of(&pickle, &data)).unwrap();
    load(&path, &crate::LoadOptions::default()).unwrap();
}
