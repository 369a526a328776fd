//! What calls of the tests do.

use std::{fs, process::Command, time::Duration};

/// `word argument...`, parts divided by newlines.
pub fn handler(input: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(input);
    let parts: Vec<&str> = text.split('\n').collect();
    let answer = match parts[..] {
        ["echo", text] => Ok(text.to_owned()),
        ["length", ..] => Ok(input.len().to_string()),
        ["read", path] => fs::read_to_string(path).map_err(|error| error.to_string()),
        ["write", path, text] => fs::write(path, text).map(|()| String::new()).map_err(|error| error.to_string()),
        ["list", path] => list(path).map_err(|error| error.to_string()),
        ["sleep"] => {
            std::thread::sleep(Duration::from_secs(600));
            Ok(String::new())
        }
        ["spin"] => loop {
            std::hint::black_box(0);
        },
        ["panic", text] => panic!("{text}"),
        ["exit", code] => std::process::exit(code.parse().unwrap_or(99)),
        ["abort"] => std::process::abort(),
        ["flood", size] => Ok("x".repeat(size.parse().unwrap_or(0))),
        ["chatter"] => {
            for number in 0..20_000 {
                eprintln!("line {number}");
            }
            Ok(String::new())
        }
        ["threads"] => {
            Ok((0..4).map(|_| std::thread::spawn(|| 1)).filter_map(|thread| thread.join().ok()).sum::<i32>())
                .map(|sum| sum.to_string())
        }
        ["allocate", size] => {
            let bytes = vec![1_u8; size.parse().unwrap_or(0)];
            Ok(bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>().to_string())
        }
        ["kill", pid] => {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a number");
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .map(|()| String::new())
                .map_err(|error| error.to_string())
        }
        ["connect", path] => {
            std::os::unix::net::UnixStream::connect(path).map(|_| String::new()).map_err(|error| error.to_string())
        }
        ["dial", address] => {
            std::net::TcpStream::connect(address).map(|_| String::new()).map_err(|error| error.to_string())
        }
        ["give", uid, path] => std::os::unix::fs::chown(path, uid.parse().ok(), None)
            .map(|()| String::new())
            .map_err(|error| error.to_string()),
        ["program", program, ref arguments @ ..] => Command::new(program)
            .args(arguments)
            .output()
            .map(|output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
            .map_err(|error| error.to_string()),
        _ => Err(format!("no such thing: {parts:?}")),
    };
    answer.unwrap_or_else(|error| format!("error: {error}")).into_bytes()
}

fn list(path: &str) -> std::io::Result<String> {
    let mut names: Vec<String> = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    Ok(names.join(" "))
}
