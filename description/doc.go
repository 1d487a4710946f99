// Package description reads image descriptions in the language of KIWI:
// config.xml or *.kiwi, every schema version from 5.0 on.
//
// Load parses a description with the positions of all its parts, follows its
// includes, brings it up to the newest schema by the upgrade steps in
// upgrade.go, and validates it against the table in the schema files. All
// that is wrong is reported at once, as Errors with file, line, column, and a
// remedy. Document.Resolve then makes the Image for one set of profiles, one
// type and one architecture: a plain read-only value that says what to build,
// with every default filled in.
//
// The package does nothing with what it reads: it opens no file outside the
// description but included ones, runs no program and knows no builder.
package description
