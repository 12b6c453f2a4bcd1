//! Who uses the platform, and what they work on.

use uuid::Uuid;

const FIRST_NAMES: [&str; 16] = [
    "Ana", "Luis", "María", "José", "Camila", "Diego", "Lucía", "Mateo", "Valeria", "Íñigo", "Sofía",
    "Renzo", "Ximena", "Álvaro", "Zoë", "Unknown",
];
const LAST_NAMES: [&str; 14] = [
    "Torres",
    "Quispe",
    "Flores",
    "Sánchez",
    "Rojas",
    "Huamán",
    "Castillo",
    "Núñez",
    "Mendoza",
    "Vargas",
    "O'Higgins",
    "Paredes",
    "Ríos",
    "",
];

/// A version 4 UUID of this seed's own.
pub(super) fn uuid(random: &mut fastrand::Rng) -> Uuid {
    uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid()
}

/// A user as IAM and Profiles know them.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) user_id: Uuid,
    pub(super) profile_id: Uuid,
    pub(super) first_name: &'static str,
    pub(super) last_name: &'static str,
    pub(super) email: String,
    pub(super) username: String,
    pub(super) avatar: Option<String>,
    /// `local`, `google` or `github`.
    pub(super) provider: &'static str,
}

impl Person {
    pub(super) fn new(random: &mut fastrand::Rng) -> Self {
        let first_name = random.choice(FIRST_NAMES).unwrap_or("Ana");
        let last_name = random.choice(LAST_NAMES).unwrap_or("Torres");
        let number = random.u32(100_000_000..1_000_000_000);
        let provider = match random.u8(0..10) {
            0..6 => "local",
            6..9 => "google",
            _ => "github",
        };
        let avatar = match provider {
            "google" => Some(format!("https://lh3.googleusercontent.com/a/ACg8ocK{number}=s96-c")),
            "github" => Some(format!("https://avatars.githubusercontent.com/u/{number}?v=4")),
            _ => None,
        };
        let host = if provider == "github" { "github.oauth" } else { "example.org" };
        Self {
            user_id: uuid(random),
            profile_id: uuid(random),
            first_name,
            last_name,
            email: format!("{}.{number}@{host}", first_name.to_lowercase()),
            username: format!("USER{number}"),
            avatar,
            provider,
        }
    }
}

/// A challenge and what it is worth.
#[derive(Debug, Clone)]
pub(super) struct Challenge {
    pub(super) id: Uuid,
    /// EASY 5, MEDIUM 10, HARD 20, EXPERT 40.
    pub(super) points: u32,
    pub(super) tests: Vec<Uuid>,
}

impl Challenge {
    pub(super) fn new(random: &mut fastrand::Rng) -> Self {
        let tests = random.usize(2..6);
        Self {
            id: uuid(random),
            points: random.choice([5, 5, 10, 10, 10, 20, 20, 40]).unwrap_or(10),
            tests: (0..tests).map(|_| uuid(random)).collect(),
        }
    }
}
