//! What the OpenAPI document says of the event that comes in and of the one that is stored. Written by hand: derived
//! schemas cannot say that a member may be null.

use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use serde_json::{Value, json};

/// The request's body.
pub(super) struct Command;

/// The answer's.
pub(super) struct StoredEvent;

impl Command {
    pub(super) fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference("Command".to_owned())
    }

    pub(super) fn register(registry: &mut Registry) {
        let name = |about| MetaSchema { min_length: Some(1), max_length: Some(120), ..text(about) };
        let payload = "All that there is to say: any JSON object. Every digit of a number is kept.";
        let properties = vec![
            ("eventType", name("What happened, for example `challenges.solution-completed`.")),
            ("source", name("Which service says so.")),
            ("payload", MetaSchema { description: Some(payload), ..MetaSchema::new("object") }),
            ("occurredAt", instant()),
            ("tenantId", at_most(64, "Whose data it is, where there are several customers.")),
            (
                "actorId",
                at_most(
                    128,
                    "Who did it; if absent, `userId`, `studentId`, `student_id` or `actorId` of the payload.",
                ),
            ),
            (
                "id",
                uuid(
                    "Makes a repeat harmless: the same id is stored once. Also called `eventId`. Not the nil or the max UUID.",
                    true,
                ),
            ),
        ];
        let required = vec!["eventType", "source", "payload"];
        let example = json!({
            "id": "7d9f3c1e-5a44-4c8e-9f57-0c1f6f0b2a11",
            "eventType": "challenges.solution-completed",
            "source": "challenges-service",
            "occurredAt": "2025-11-16T18:14:00Z",
            "payload": { "studentId": "s-42", "score": 97.5 },
        });
        object::<Self>(
            registry,
            "Command",
            "An event to record; a member that is null counts as absent.",
            required,
            properties,
            example,
        );
    }
}

impl StoredEvent {
    pub(super) fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference("StoredEvent".to_owned())
    }

    pub(super) fn register(registry: &mut Registry) {
        let instant = |about| MetaSchema {
            description: Some(about),
            ..MetaSchema::new_with_format("string", "date-time")
        };
        let tenant = MetaSchema { nullable: true, ..text("Whose data it is; null is no tenant.") };
        let properties = vec![
            ("id", uuid("The event's own id, or the one it was given.", false)),
            ("eventType", text("What happened.")),
            ("source", text("Which service says so.")),
            ("occurredAt", instant("When it happened.")),
            ("ingestedAt", instant("When it was stored.")),
            ("tenantId", tenant),
        ];
        let required = properties.iter().map(|(name, _)| *name).collect();
        let example = json!({
            "id": "7d9f3c1e-5a44-4c8e-9f57-0c1f6f0b2a11",
            "eventType": "challenges.solution-completed",
            "source": "challenges-service",
            "occurredAt": "2025-11-16T18:14:00+00:00",
            "ingestedAt": "2025-11-16T18:14:00.182045+00:00",
            "tenantId": null,
        });
        object::<Self>(registry, "StoredEvent", "What is stored.", required, properties, example);
    }
}

fn object<T: 'static>(
    registry: &mut Registry,
    name: &str,
    description: &'static str,
    required: Vec<&'static str>,
    properties: Vec<(&'static str, MetaSchema)>,
    example: Value,
) {
    let inline = |(name, schema)| (name, MetaSchemaRef::Inline(Box::new(schema)));
    registry.create_schema::<T, _>(name.to_owned(), |_| MetaSchema {
        title: Some(name.to_owned()),
        description: Some(description),
        required,
        properties: properties.into_iter().map(inline).collect(),
        example: Some(example),
        ..MetaSchema::new("object")
    });
}

fn text(description: &'static str) -> MetaSchema {
    MetaSchema { description: Some(description), ..MetaSchema::new("string") }
}

fn at_most(characters: usize, description: &'static str) -> MetaSchema {
    MetaSchema { max_length: Some(characters), nullable: true, ..text(description) }
}

fn uuid(description: &'static str, nullable: bool) -> MetaSchema {
    MetaSchema { description: Some(description), nullable, ..MetaSchema::new_with_format("string", "uuid") }
}

/// All forms that a producer may send.
fn instant() -> MetaSchema {
    let inline = |schema| MetaSchemaRef::Inline(Box::new(schema));
    let numbers = MetaSchema {
        items: Some(Box::new(inline(MetaSchema::new("integer")))),
        min_items: Some(3),
        max_items: Some(7),
        ..MetaSchema::new("array")
    };
    let forms = [MetaSchema::new_with_format("string", "date-time"), MetaSchema::new("number"), numbers];
    MetaSchema {
        description: Some(
            "When it happened, the time of the request if absent: RFC 3339, where no offset is UTC; seconds or \
             milliseconds since 1970; or year, month, day and so on down to nanoseconds, in UTC.",
        ),
        nullable: true,
        any_of: forms.map(inline).into(),
        ..MetaSchema::ANY
    }
}
