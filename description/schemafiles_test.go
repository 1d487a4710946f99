package description

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// schemaInputs are descriptions that are good and bad, of this package's tests
// and of the corpus where it is there.
func schemaInputs(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"testdata/*/*.kiwi", "../examples/*/*/*.kiwi"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no inputs at %s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	dir := filepath.Join(conformancePath(), "input")
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.HasSuffix(path, ".xml") || strings.HasSuffix(path, ".kiwi")) {
			files = append(files, path)
		}
		return nil
	})
	return files
}

// upgraded returns a description as the schemas describe it, and our verdict on
// its shape; nil where it can't be brought up at all.
func upgraded(file string) (*element, version, error) {
	l := &loader{fsys: os.DirFS(filepath.Dir(file)), label: filepath.Dir(file)}
	data, err := l.read(filepath.Base(file))
	if err != nil {
		return nil, 0, err
	}
	root, _, err := parse(file, data)
	if err != nil || l.include(root) != nil || root.name != "image" {
		return nil, 0, err
	}
	written, _ := root.attr("schemaversion")
	v, err := parseVersion(written)
	if err != nil || !v.exists() {
		return nil, 0, err
	}
	u := &upgrader{root: root}
	u.upgrade(v, v.target())
	c := &validator{version: v.target(), shape: true}
	errs, warnings := c.validate(root)
	if strings.Contains(warnings.Error(), "has no meaning and is ignored") {
		return nil, 0, nil // text between elements, which KIWI and we tolerate, and schemas don't
	}
	return root, v.target(), errs.err()
}

// TestSchemasAgree compares the verdicts of the schemas with ours, leaving out
// the rules between attributes, of which schemas know nothing.
func TestSchemasAgree(t *testing.T) {
	testenv.NeedProgram(t, "xmllint")
	testenv.NeedProgram(t, "python3")
	dir := t.TempDir()
	var xmlGood, xmlBad, jsonGood, jsonBad []string
	for _, v := range SchemaVersions() {
		for name, write := range map[string]func(string) ([]byte, error){"rng": RelaxNG, "json": JSONSchema} {
			data, err := write(v)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "schema-"+v+"."+name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	refused := map[string]error{}
	for i, file := range schemaInputs(t) {
		root, v, verdict := upgraded(file)
		if root == nil {
			continue
		}
		doc := &Document{root: root}
		base := filepath.Join(dir, v.String()+"-"+string(rune('a'+i%26))+"-"+strings.Repeat("i", i/26))
		inJSON, err := doc.Encode(FormatJSON)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(base+".xml", doc.XML(), 0o644), os.WriteFile(base+".data", inJSON, 0o644)); err != nil {
			t.Fatal(err)
		}
		refused[base] = verdict
		if verdict == nil {
			xmlGood, jsonGood = append(xmlGood, base), append(jsonGood, base)
		} else {
			xmlBad, jsonBad = append(xmlBad, base), append(jsonBad, base)
		}
	}
	for base, ok := range relaxNGVerdicts(t, dir, append(xmlGood, xmlBad...)) {
		if ok != (refused[base] == nil) {
			t.Errorf("RELAX NG accepts %s: %v, and we say: %v", base, ok, refused[base])
		}
	}
	for base, ok := range jsonSchemaVerdicts(t, dir, append(jsonGood, jsonBad...)) {
		if ok != (refused[base] == nil) {
			t.Errorf("JSON Schema accepts %s: %v, and we say: %v", base, ok, refused[base])
		}
	}
	t.Logf("%d good, %d bad descriptions", len(xmlGood), len(xmlBad))
}

// relaxNGVerdicts asks xmllint.
func relaxNGVerdicts(t *testing.T, dir string, bases []string) map[string]bool {
	t.Helper()
	verdicts := map[string]bool{}
	for _, v := range SchemaVersions() {
		args := []string{"--noout", "--relaxng", filepath.Join(dir, "schema-"+v+".rng")}
		for _, base := range bases {
			if strings.HasPrefix(filepath.Base(base), v+"-") {
				args = append(args, base+".xml")
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		out, _ := exec.CommandContext(ctx, "xmllint", args...).CombinedOutput() // its exit code is one for all files
		cancel()
		for _, line := range strings.Split(string(out), "\n") {
			file, verdict, _ := strings.Cut(line, " ")
			switch base := strings.TrimSuffix(file, ".xml"); verdict {
			case "validates":
				verdicts[base] = true
			case "fails to validate":
				verdicts[base] = false
			}
		}
	}
	if len(verdicts) != len(bases) {
		t.Errorf("xmllint has a verdict on %d of %d files", len(verdicts), len(bases))
	}
	return verdicts
}

// jsonSchemaVerdicts asks python3-jsonschema.
func jsonSchemaVerdicts(t *testing.T, dir string, bases []string) map[string]bool {
	t.Helper()
	const program = `
import json, sys
import jsonschema
verdicts, schemas = {}, {}
for line in sys.stdin:
    version, base = line.split()
    if version not in schemas:
        schema = json.load(open(sys.argv[1] + "/schema-" + version + ".json"))
        jsonschema.Draft7Validator.check_schema(schema)
        schemas[version] = jsonschema.Draft7Validator(schema)
    verdicts[base] = schemas[version].is_valid(json.load(open(base + ".data")))
json.dump(verdicts, sys.stdout)
`
	var in bytes.Buffer
	for _, base := range bases {
		v, _, _ := strings.Cut(filepath.Base(base), "-")
		in.WriteString(v + " " + base + "\n")
	}
	cmd := exec.Command("/usr/bin/python3", "-W", "ignore", "-c", program, dir)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		testenv.Missing(t, "python3 has no module jsonschema (Debian: python3-jsonschema): %v", err)
		return nil
	}
	verdicts := map[string]bool{}
	if err := json.Unmarshal(out, &verdicts); err != nil {
		t.Fatal(err)
	}
	return verdicts
}
