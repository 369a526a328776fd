use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

static DEVICE: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]));

const NOW: Timestamp = Timestamp(1_000);

fn verifier() -> Verifier {
    Verifier::new(DEVICE.verifying_key())
}

fn caps(texts: &[&str]) -> Vec<Capability> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn authority() -> Authority {
    Authority {
        id: TokenId([1; 16]),
        issuer: "operator".into(),
        subject: "web".into(),
        capabilities: caps(&["fs:read:/srv/**", "web:fetch:*.example.com"]),
        tools: None,
        not_after: Timestamp(2_000),
    }
}

fn open() -> Token {
    Token::mint(&DEVICE, &authority(), Ending::Open([2; 32])).unwrap()
}

fn narrowed() -> Token {
    let caveats = Caveats {
        capabilities: Some(caps(&["fs:read:/srv/www/**"])),
        tools: Some(["fs.read".to_owned()].into()),
        not_after: Some(Timestamp(1_500)),
    };
    open().attenuate(&caveats, Ending::Open([3; 32])).unwrap()
}

fn sealed() -> Token {
    narrowed().attenuate(&Caveats::default(), Ending::Sealed).unwrap()
}

fn need(text: &str) -> Capability {
    text.parse().unwrap()
}

#[test]
fn a_token_says_what_its_blocks_say_together() {
    let verified = verifier().verify(open().as_str(), NOW).unwrap();
    assert_eq!((verified.issuer(), verified.subject(), verified.not_after()), ("operator", "web", Timestamp(2_000)));
    assert!(verified.covers(&need("fs:read:/srv/a")) && verified.covers(&need("web:fetch:www.example.com")));
    assert!(!verified.covers(&need("fs:write:/srv/a")));
    assert!(verified.allows_tool("anything.at_all"));

    let verified = verifier().verify(sealed().as_str(), NOW).unwrap();
    assert_eq!((verified.not_after(), verified.ids().len()), (Timestamp(1_500), 3));
    assert!(verified.covers(&need("fs:read:/srv/www/a")));
    assert!(!verified.covers(&need("fs:read:/srv/a")) && !verified.covers(&need("web:fetch:www.example.com")));
    assert!(verified.allows_tool("fs.read") && !verified.allows_tool("fs.list"));
}

#[test]
fn a_block_can_not_widen() {
    let wider = Caveats { capabilities: Some(caps(&["fs:read:/**"])), ..Caveats::default() };
    assert!(matches!(open().attenuate(&wider, Ending::Sealed), Err(TokenError::Wider(_))));
    let tool = Caveats { tools: Some(["fs.list".to_owned()].into()), ..Caveats::default() };
    assert!(matches!(narrowed().attenuate(&tool, Ending::Sealed), Err(TokenError::Wider(_))));

    // Somebody who writes such a block all the same has nothing of it.
    let bytes = format::from_text(open().as_str()).unwrap();
    let layout = format::layout(&bytes).unwrap();
    let later = Caveats { not_after: Some(Timestamp(9_000)), ..wider };
    let signed = format::block(None, &format::caveats(&later).unwrap()).unwrap();
    let block = &layout.blocks[0];
    let key = SigningKey::from_bytes(&layout.proof.unwrap());
    let signature = key.sign(&format::message(1, Some(&block.signature), &signed)).to_bytes();
    let forged = Token::of(2, &[&bytes[2..block.end()], &signed, &signature].concat(), Ending::Sealed).unwrap();
    let verified = verifier().verify(forged.as_str(), NOW).unwrap();
    assert!(verified.covers(&need("fs:read:/srv/a")) && !verified.covers(&need("fs:read:/etc/shadow")));
    assert_eq!(verified.not_after(), Timestamp(2_000));
}

#[test]
fn a_token_ends_with_its_last_second_and_with_its_revocation() {
    let verifier = verifier();
    let (token, narrowed, sealed) = (open(), narrowed(), sealed());
    assert!(verifier.verify(token.as_str(), Timestamp(2_000)).is_ok());
    assert_eq!(verifier.verify(token.as_str(), Timestamp(2_001)), Err(TokenError::Expired(Timestamp(2_000))));
    assert_eq!(verifier.verify(narrowed.as_str(), Timestamp(1_501)), Err(TokenError::Expired(Timestamp(1_500))));

    let id = verifier.verify(narrowed.as_str(), NOW).unwrap().ids()[1];
    verifier.verify(sealed.as_str(), NOW).unwrap();
    verifier.revoke(id, Timestamp(1_500));
    verifier.revoke(id, Timestamp(1_400));
    assert_eq!(verifier.verify(narrowed.as_str(), NOW), Err(TokenError::Revoked(id)));
    assert_eq!(verifier.verify(sealed.as_str(), NOW), Err(TokenError::Revoked(id)), "and what was made of it");
    assert!(verifier.verify(token.as_str(), NOW).is_ok(), "but not what it was made of");
    assert_eq!(verifier.revoked(), [(id, Timestamp(1_500))]);
    verifier.expire(Timestamp(1_500));
    assert_eq!(verifier.revoked().len(), 1);
    verifier.expire(Timestamp(1_501));
    assert_eq!(verifier.revoked(), []);
    verifier.revoke(authority().id, Timestamp(2_000));
    assert!(verifier.verify(token.as_str(), NOW).is_err() && verifier.verify(narrowed.as_str(), NOW).is_err());
}

#[test]
fn nobody_takes_a_narrowing_off() {
    let (open, narrowed) = (open(), narrowed());
    let bytes = format::from_text(narrowed.as_str()).unwrap();
    let first = format::layout(&bytes).unwrap().blocks[0].end();
    let verifier = verifier();
    verifier.verify(open.as_str(), NOW).unwrap();
    // The holder of the narrowed token knows the key of the second block, not of the first.
    for seed in [[3; 32], [0; 32]] {
        let cut = Token::of(1, &bytes[2..first], Ending::Open(seed)).unwrap();
        assert_eq!(verifier.verify(cut.as_str(), NOW), Err(TokenError::Proof));
    }
    let without = format::to_text(&[&[1, 1], &bytes[2..first]].concat());
    assert!(matches!(verifier.verify(&without, NOW), Err(TokenError::Malformed { .. })));
}

#[test]
fn a_token_has_at_most_four_blocks_and_none_behind_a_seal() {
    let mut token = open();
    for seed in 3..6 {
        token = token.attenuate(&Caveats::default(), Ending::Open([seed; 32])).unwrap();
        verifier().verify(token.as_str(), NOW).unwrap();
    }
    assert_eq!(token.attenuate(&Caveats::default(), Ending::Sealed), Err(TokenError::TooManyBlocks));
    assert_eq!(sealed().attenuate(&Caveats::default(), Ending::Sealed), Err(TokenError::Sealed));
}

#[test]
fn another_devices_token_is_refused() {
    let stranger = SigningKey::from_bytes(&[9; 32]);
    let token = Token::mint(&stranger, &authority(), Ending::Open([2; 32])).unwrap();
    let verifier = verifier();
    assert_eq!(verifier.verify(token.as_str(), NOW), Err(TokenError::Signature { block: 1 }));
    let longer = token.attenuate(&Caveats::default(), Ending::Sealed).unwrap();
    assert_eq!(verifier.verify(longer.as_str(), NOW), Err(TokenError::Signature { block: 1 }));
}

#[test]
fn a_block_fits_its_own_token_only() {
    // The same keys all along, and still the second block of one is not one of the other.
    let mut other = authority();
    other.id = TokenId([8; 16]);
    let other = Token::mint(&DEVICE, &other, Ending::Open([2; 32])).unwrap();
    let (other, narrowed) =
        (format::from_text(other.as_str()).unwrap(), format::from_text(narrowed().as_str()).unwrap());
    let end = |bytes: &[u8]| format::layout(bytes).unwrap().blocks[0].end();
    let spliced = format::to_text(&[&[1, 2], &other[2..end(&other)], &narrowed[end(&narrowed)..]].concat());
    assert_eq!(verifier().verify(&spliced, NOW), Err(TokenError::Signature { block: 2 }));
}

#[test]
fn names_and_sizes_are_bounded() {
    let bad = Authority { subject: "We b".into(), ..authority() };
    assert_eq!(Token::mint(&DEVICE, &bad, Ending::Sealed), Err(TokenError::Name("We b".into())));
    let long = Authority { capabilities: vec![need("fs:read:/srv/**"); 1_000], ..authority() };
    assert_eq!(Token::mint(&DEVICE, &long, Ending::Sealed), Err(TokenError::TooLong));
    let text = format!("aios1.{}", "A".repeat(100_000));
    assert_eq!(verifier().verify(&text, NOW), Err(TokenError::TooLong));
    for text in ["", "aios1", "aios1.", "aios2.AAAA", "aios1.A", "aios1.AA==", "aios1.AA AA", "aios1.A\n"] {
        assert!(verifier().verify(text, NOW).is_err(), "{text:?}");
    }
}

#[test]
fn every_bit_counts() {
    for token in [open(), narrowed(), sealed()] {
        let bytes = format::from_text(token.as_str()).unwrap();
        let verifier = verifier();
        verifier.verify(token.as_str(), NOW).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(verifier.verify(&format::to_text(&damaged), NOW).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(verifier.verify(&format::to_text(&bytes[..end]), NOW).is_err(), "cut at {end}");
        }
        assert!(verifier.verify(&format::to_text(&[&bytes[..], &[0]].concat()), NOW).is_err());
    }
}

#[test]
fn a_token_is_not_shown_by_debug_and_reads_back() {
    let token = open();
    assert_eq!(format!("{token:?}"), "aios1....");
    assert_eq!(Token::from_text(token.as_str()), Ok(token.clone()));
    assert!(Token::from_text(&token.as_str()[..20]).is_err());
}

#[test]
fn what_is_remembered_is_bounded_and_changes_no_answer() {
    let verifier = verifier();
    for n in 0..40_u8 {
        let token = Token::mint(&DEVICE, &Authority { id: TokenId([n; 16]), ..authority() }, Ending::Sealed).unwrap();
        assert_eq!(verifier.verify(token.as_str(), NOW), verifier.verify(token.as_str(), NOW));
    }
    assert!(verifier.remembered() > 0 && verifier.remembered() <= 2 * verifier::REMEMBERED);
    let mut state = verifier::State::default();
    for n in 0..10_000_u32 {
        state.remember(vec![std::array::from_fn(|i| n.to_be_bytes()[i % 4])]);
    }
    assert!(state.remembered() <= 2 * verifier::REMEMBERED);
}

#[test]
fn the_bytes_are_those_of_the_document() {
    // docs/formats/token.md shows this token.
    let authority = Authority {
        id: TokenId(std::array::from_fn(|i| i as u8)),
        issuer: "operator".into(),
        subject: "web".into(),
        capabilities: caps(&["fs:read:/srv/**"]),
        tools: Some(["fs.read".to_owned()].into()),
        not_after: Timestamp(1_800_000_000),
    };
    let token = Token::mint(&DEVICE, &authority, Ending::Open([2; 32])).unwrap();
    let hex: String = format::from_text(token.as_str()).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let document = include_str!("../../../../docs/formats/token.md");
    let shown: String = document
        .split("```hex\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the example")
        .lines()
        .flat_map(|line| line.split("  ").next().unwrap_or_default().split_whitespace())
        .collect();
    assert_eq!(hex, shown);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_minted_is_what_is_read(
        id: [u8; 16],
        capabilities in prop::collection::vec("[a-z]{1,5}:[a-z]{1,5}:/[a-z/*]{0,9}[a-z]", 0..5),
        tools in prop::option::of(prop::collection::btree_set("[a-z]{1,4}\\.[a-z]{1,4}", 0..4)),
        not_after in 1_000_u64..,
        seed: [u8; 32],
        is_open: bool,
    ) {
        let capabilities: Vec<Capability> = capabilities.iter().filter_map(|text| text.parse().ok()).collect();
        let authority = Authority { id: TokenId(id), capabilities, tools, not_after: Timestamp(not_after), ..authority() };
        let ending = if is_open { Ending::Open(seed) } else { Ending::Sealed };
        let token = Token::mint(&DEVICE, &authority, ending).unwrap();
        let verified = verifier().verify(token.as_str(), NOW).unwrap();
        prop_assert_eq!(verified.ids(), [authority.id]);
        prop_assert_eq!(verified.not_after(), authority.not_after);
        prop_assert_eq!(&verified.capabilities, &vec![authority.capabilities]);
        prop_assert_eq!(verified.tools, authority.tools.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn each_narrowing_allows_no_more_than_the_one_before(
        lists in prop::collection::vec(prop::collection::vec(0usize..6, 0..4), 1..4),
        needed in 0usize..6,
    ) {
        let all = ["fs:read:/srv/**", "fs:read:/srv/*", "fs:read:/srv/a", "fs:read:/srv/a*", "fs:*:/srv/a", "fs:read:/srv/b/c"];
        let mut token = open();
        let need = need(all[needed]);
        let mut before = verifier().verify(token.as_str(), NOW).unwrap().covers(&need);
        for (i, list) in lists.iter().enumerate() {
            let texts: Vec<&str> = list.iter().map(|n| all[*n]).collect();
            let caveats = Caveats { capabilities: Some(caps(&texts)), ..Caveats::default() };
            let Ok(next) = token.attenuate(&caveats, Ending::Open([i as u8 + 10; 32])) else { break };
            token = next;
            let covers = verifier().verify(token.as_str(), NOW).unwrap().covers(&need);
            prop_assert!(before || !covers);
            before = covers;
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,40}") {
        prop_assert!(verifier().verify(&format::to_text(&bytes), NOW).is_err());
        prop_assert!(verifier().verify(&text, NOW).is_err());
        prop_assert!(Token::from_text(&text).is_err());
    }
}

#[test]
fn what_a_token_says_can_be_read_block_by_block() {
    let content = open().content().unwrap();
    assert_eq!((content.authority, content.caveats, content.open), (authority(), vec![], true));
    let content = sealed().content().unwrap();
    assert_eq!((content.caveats.len(), content.open), (2, false));
    assert_eq!(content.caveats[0].not_after, Some(Timestamp(1_500)));
    assert_eq!(content.ids, verifier().verify(sealed().as_str(), NOW).unwrap().ids());
}

#[test]
fn an_id_is_read_as_it_is_shown_and_no_other_way() {
    let id = TokenId(std::array::from_fn(|n| n as u8 * 16 + 11));
    assert_eq!(id.to_string().parse(), Ok(id));
    let upper = id.to_string().to_uppercase();
    for wrong in ["", "0b", upper.as_str(), &format!("{id}00"), &"g".repeat(32), &"é".repeat(16)] {
        assert_eq!(wrong.parse::<TokenId>(), Err(TokenError::Id), "{wrong:?}");
    }
}
