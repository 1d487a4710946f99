// Package description reads image descriptions in the language of KIWI:
// config.xml or *.kiwi, every schema version from 5.0 on, in XML, YAML, JSON
// or TOML; and, through package legacy2006, in the format of 2006.
//
// Load parses a description with the positions of all its parts, follows its
// includes, brings it up to the newest schema by the upgrade steps in
// upgrade.go, and validates it against the table in the schema files. All
// that is wrong is reported at once, as Errors with file, line, column, and a
// remedy. Document.Resolve then makes the Image for one set of profiles, one
// type and one architecture: a plain read-only value that says what to build,
// with every default filled in. It makes the checks of Checks, and warns of
// each setting that does nothing in that image (effects.go).
//
// The table is data: the validator, the defaults, the warnings, the schemas
// for editors (RelaxNG, JSONSchema) and the reference page are made from it.
//
// The package does nothing with what it reads: it opens no file outside the
// description but included ones, runs no program and knows no builder.
package description
