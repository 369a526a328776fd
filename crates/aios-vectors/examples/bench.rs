//! The index as `benches/memory.py` measures it: told what to do line by line, it answers with a line of JSON each time.
//!
//! `bench FILE DIMENSIONS GRAPH_FROM DATA K`: the database to make, the size of the vectors, how many get a graph (or
//! `default`), a folder with files of single-precision numbers (lowest byte first), and how many hits a search gives. The
//! commands:
//!
//! ```text
//! ingest          all of DATA/vectors, 1000 in a transaction: seconds
//! link            the graph, where there are so many vectors: seconds, and the longest transaction
//! open BREADTH    the index anew from the file: seconds
//! search PART N   each of the first N queries of DATA/PART: nanoseconds and numbers of what was found
//! resident        bytes that the process has in memory
//! ```

use std::{
    error::Error,
    fs::File,
    io::{BufRead as _, BufReader, Read, stdin},
    time::Instant,
};

use aios_vectors::{Index, Options};
use redb::{Builder, Database, ReadableDatabase as _};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Vectors that are stored in one transaction, with all subjects.
const BATCH: usize = 1000;

/// Vectors that are linked in one transaction.
const LINK: usize = 256;

/// Bytes of the database that are kept in memory beside the index.
const CACHE: usize = 8 << 20;

struct Subject {
    database: Database,
    options: Options,
    index: Index,
}

impl Subject {
    fn new(path: &str, options: Options) -> Outcome<Subject> {
        let database = Builder::new().set_cache_size(CACHE).create(path)?;
        let index = Index::open(&database.begin_read()?, options)?;
        Ok(Subject { database, options, index })
    }

    fn ingest(&mut self, path: &str) -> Outcome<f64> {
        let mut file = BufReader::new(File::open(path)?);
        let begin = Instant::now();
        let mut id = 0;
        loop {
            let write = self.database.begin_write()?;
            let mut batch = self.index.batch(&write);
            let before = id;
            for _ in 0..BATCH {
                let Some(vector) = read_vector(&mut file, self.options.dimensions)? else { break };
                batch.insert(id, &vector)?;
                id += 1;
            }
            if id == before {
                return Ok(begin.elapsed().as_secs_f64());
            }
            let staged = batch.finish()?;
            write.commit()?;
            self.index.publish(staged)?;
        }
    }

    /// Seconds of all transactions, and of the longest.
    fn link(&mut self) -> Outcome<(f64, f64)> {
        let begin = Instant::now();
        let mut longest = 0.0f64;
        while self.index.stats().to_link > 0 {
            let start = Instant::now();
            let write = self.database.begin_write()?;
            let mut batch = self.index.batch(&write);
            batch.link(LINK);
            let staged = batch.finish()?;
            write.commit()?;
            self.index.publish(staged)?;
            longest = longest.max(start.elapsed().as_secs_f64());
        }
        Ok((begin.elapsed().as_secs_f64(), longest))
    }

    fn open(&mut self, breadth: usize) -> Outcome<f64> {
        self.options.breadth = breadth;
        // The memory of the old one is given back before.
        let none = Options { dimensions: 1, ..self.options };
        let empty = Builder::new().create_with_backend(redb::backends::InMemoryBackend::new())?;
        self.index = Index::open(&empty.begin_read()?, none)?;
        let begin = Instant::now();
        self.index = Index::open(&self.database.begin_read()?, self.options)?;
        Ok(begin.elapsed().as_secs_f64())
    }

    fn search(&self, path: &str, most: usize, k: usize) -> Outcome<String> {
        let mut file = BufReader::new(File::open(path)?);
        let mut queries = Vec::new();
        while queries.len() < most
            && let Some(query) = read_vector(&mut file, self.options.dimensions)?
        {
            queries.push(query);
        }
        let (mut times, mut found) = (Vec::new(), Vec::new());
        for query in queries {
            let begin = Instant::now();
            let hits = self.index.search(&query, k, |_| true)?;
            times.push(begin.elapsed().as_nanos());
            found.push(hits.into_iter().map(|hit| hit.id).collect::<Vec<_>>());
        }
        Ok(format!("{{\"times\": {times:?}, \"found\": {found:?}}}"))
    }
}

fn read_vector(file: &mut impl Read, dimensions: usize) -> Outcome<Option<Vec<f32>>> {
    let mut bytes = vec![0; dimensions * 4];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect(),
        )),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("/proc/self/status has no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, dimensions, graph_from, data, k] = arguments.as_slice() else {
        return Err("usage: bench FILE DIMENSIONS GRAPH_FROM DATA K".into());
    };
    let mut options = Options { dimensions: dimensions.parse()?, ..Options::default() };
    if graph_from != "default" {
        options.graph_from = graph_from.parse()?;
    }
    let mut subject = Subject::new(path, options)?;
    for line in stdin().lock().lines() {
        match line?.split_whitespace().collect::<Vec<_>>()[..] {
            ["ingest"] => println!("{{\"seconds\": {}}}", subject.ingest(&format!("{data}/vectors"))?),
            ["link"] => {
                let (seconds, longest) = subject.link()?;
                println!("{{\"seconds\": {seconds}, \"longest\": {longest}}}");
            }
            ["open", breadth] => println!("{{\"seconds\": {}}}", subject.open(breadth.parse()?)?),
            ["search", part, most] => {
                println!("{}", subject.search(&format!("{data}/{part}"), most.parse()?, k.parse()?)?)
            }
            ["resident"] => println!("{{\"bytes\": {}}}", resident()?),
            ref other => return Err(format!("no such command: {}", other.join(" ")).into()),
        }
    }
    Ok(())
}
