use super::*;

fn names(list: &str) -> Vec<String> {
    list.split(',').filter(|n| !n.is_empty()).map(String::from).collect()
}

fn between(model: &str, data: &str, wanted: ClassMatch) -> Result<ClassMap> {
    let (model, data) = (names(model), names(data));
    ClassMap::between(Side { who: "the model", names: &model }, Side { who: "the dataset", names: &data }, wanted)
}

fn numbers(model: &str, data: &str) -> Vec<Option<usize>> {
    between(model, data, ClassMatch::Same).unwrap().numbers().to_vec()
}

fn fails(model: &str, data: &str, wanted: ClassMatch, parts: &[&str]) {
    let e = between(model, data, wanted).unwrap_err();
    assert_eq!(e.kind(), compresso_base::ErrorKind::Argument);
    let text = e.to_string();
    assert!(parts.iter().all(|p| text.contains(p)), "{text}");
}

#[test]
fn equal_lists_are_the_same_classes_and_nothing_is_said() {
    for list in ["a,b,c", "class0,class1", "crane,tench,crane"] {
        let map = between(list, list, ClassMatch::Same).unwrap();
        assert!(map.is_identity() && map.note().is_none() && map.missing().is_empty());
    }
}

#[test]
fn another_order_is_matched_by_name_and_said() {
    let map = between("RBC,WBC,Platelets", "Platelets,RBC,WBC", ClassMatch::Same).unwrap();
    assert_eq!(map.numbers(), [Some(2), Some(0), Some(1)]);
    let note = map.note().unwrap();
    assert!(!map.is_identity() && note.contains("matched by name: Platelets 0 → 2, RBC 1 → 0, WBC 2 → 1"), "{note}");
    // Digits are names like others where both sides have the same.
    assert_eq!(numbers("0,1,2", "2,1,0"), [Some(2), Some(1), Some(0)]);
}

#[test]
fn case_and_separators_do_not_count_but_other_signs_do() {
    let map = between("traffic light,Stop-Sign", "stop_sign,Traffic_Light", ClassMatch::Same).unwrap();
    assert_eq!(map.numbers(), [Some(1), Some(0)]);
    assert!(map.note().unwrap().contains("'stop_sign' is 'Stop-Sign'"), "{map:?}");
    assert_eq!(numbers(" a ,b", "b,a"), [Some(1), Some(0)]);
    // Equal texts go first, so that names that differ in case alone stay apart.
    assert_eq!(numbers("Person,person", "person,Person"), [Some(1), Some(0)]);
    fails("O,A", "O-,A", ClassMatch::Same, &["does not know O-", "lacks O"]);
    fails("trafficlight,a", "traffic light,a", ClassMatch::Same, &["if 'traffic light' is 'trafficlight', write them alike"]);
    fails("Person,person,x", "PERSON,x,y", ClassMatch::Same, &["'person' stands more than once"]);
    fails("crane,tench,crane", "tench,crane,crane", ClassMatch::Same, &["'crane' stands more than once"]);
}

#[test]
fn names_that_say_nothing_are_matched_by_number_where_the_counts_agree() {
    for (model, data) in [("class0,class1", "cat,dog"), ("cat,dog", "0,1"), ("Class 1,Class 2", "x,y"), ("item", "RBC")] {
        let map = between(model, data, ClassMatch::Same).unwrap();
        assert!(map.is_identity() && map.note().unwrap().contains("has no names"), "{model} {data}: {map:?}");
    }
    let quiet = between("class0,class1", "1,2", ClassMatch::Same).unwrap();
    assert!(quiet.is_identity() && quiet.note().is_none());
    // An image folder sorts its classes as text.
    let folder = "0,1,10,2,3,4,5,6,7,8,9";
    assert!(
        between("class0,class1,class2,class3,class4,class5,class6,class7,class8,class9,class10", folder, ClassMatch::Same)
            .unwrap()
            .is_identity()
    );
    assert_eq!(numbers("0,1,2,3,4,5,6,7,8,9,10", folder)[2], Some(10));
    fails(
        "class0,class1,class2",
        "cat,dog",
        ClassMatch::Shared,
        &["the model has no names", "3 classes (class0, class1, class2)", "(cat, dog)"],
    );
    fails("cat,dog", "0,1,2", ClassMatch::Same, &["the dataset has no names", "new head"]);
    fails("0,1,2", "2,1,7", ClassMatch::Same, &["does not know 7", "lacks 0"]);
    assert_eq!(between("0,1,2,3", "3,1", ClassMatch::Shared).unwrap().numbers(), [Some(3), Some(1)]);
    // Of a detector whose number of classes is not known.
    assert_eq!(numbers("", "cat,dog"), [Some(0), Some(1)]);
}

#[test]
fn a_part_of_the_classes_needs_the_word() {
    fails("a,b,c", "c,a", ClassMatch::Same, &["the dataset lacks b of the model", "classes: \"shared\" goes on with the 2", "new head"]);
    fails("a,b", "b,x,a", ClassMatch::Same, &["does not know x", "2 classes (a, b)", "3 classes (b, x, a)"]);
    let map = between("a,b,c", "c,x,a", ClassMatch::Shared).unwrap();
    assert_eq!((map.numbers(), map.missing()), (&[Some(2), None, Some(0)][..], &[1][..]));
    let note = map.note().unwrap();
    assert!(note.contains("share 2 classes; the model alone has b; the dataset alone has x") && note.contains("c 0 → 2"), "{note}");
    let both_bare = between("class0,class1,class2", "0,1", ClassMatch::Shared).unwrap();
    assert_eq!((both_bare.numbers(), both_bare.missing()), (&[Some(0), Some(1)][..], &[2][..]));
}

#[test]
fn strangers_are_an_error_with_both_lists_and_the_remedies() {
    for wanted in [ClassMatch::Same, ClassMatch::Shared] {
        fails(
            "RBC,WBC",
            "cat,dog",
            wanted,
            &["(RBC, WBC)", "(cat, dog)", "model(file, #{ classes: [...] })", "model(file, #{ classes: d.classes })"],
        );
    }
    let many: Vec<String> = (0..80).map(|i| format!("thing{i}x")).collect();
    fails(&many.join(","), "cat", ClassMatch::Same, &["80 classes", "thing11x and 68 more", "1 class (cat)"]);
}

#[test]
fn generated_names() {
    for list in ["0", "0,1,2", "1,2", "class0,class1", "class_1,class_2", "Label 0", "object 1", "id-0", "item", "00,01"] {
        assert!(are_generated(&names(list)), "{list}");
    }
    for list in ["1,0", "2,3", "RBC", "class0,RBC", "n01440764", "item,object", "classic", "0,10,1", "class"] {
        assert!(!are_generated(&names(list)), "{list}");
    }
}
