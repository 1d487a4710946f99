package description

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with the content of a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; write anew with -update):\n%s", file, diff)
	}
}

// eachInput runs a test for every input of a testdata directory.
func eachInput(t *testing.T, dir string, fn func(t *testing.T, file string)) {
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.kiwi"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no inputs in testdata/%s: %v", dir, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".kiwi"), func(t *testing.T) { fn(t, file) })
	}
}

// TestInvalid compares all errors of each bad description, from loading or
// from resolving, with what a user should read.
func TestInvalid(t *testing.T) {
	eachInput(t, "invalid", func(t *testing.T, file string) {
		doc, err := Load(file, LoadOptions{})
		if err == nil {
			_, err = doc.Resolve(Selection{Arch: "x86_64"})
		}
		if err == nil {
			t.Fatal("no error")
		}
		golden(t, strings.TrimSuffix(file, ".kiwi")+".err", err.Error()+"\n")
	})
}

// TestUpgrade compares the upgraded form of each description and its warnings,
// and reads it again: the form must be stable.
func TestUpgrade(t *testing.T) {
	eachInput(t, "upgrade", func(t *testing.T, file string) {
		doc, err := Load(file, LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		base := strings.TrimSuffix(file, ".kiwi")
		golden(t, base+".out.xml", string(doc.XML()))
		golden(t, base+".warnings", Errors(doc.Warnings).Error()+"\n")
		again := loadString(t, string(doc.XML()))
		if diff := cmp.Diff(string(doc.XML()), string(again.XML())); diff != "" {
			t.Errorf("written and read again:\n%s", diff)
		}
	})
}

// TestResolve compares the whole model of each description.
func TestResolve(t *testing.T) {
	eachInput(t, "resolve", func(t *testing.T, file string) {
		doc, err := Load(file, LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		models := map[string]any{}
		for name, sel := range map[string]Selection{
			"default": {Arch: "x86_64", SkipChecks: []string{AllChecks}},
			"aarch64": {Arch: "aarch64", SkipChecks: []string{AllChecks}},
		} {
			img, err := doc.Resolve(sel)
			if err != nil {
				t.Fatal(err)
			}
			img.FS = nil
			models[name] = withoutPositions(t, img)
		}
		for _, profile := range doc.ProfileNames() {
			img, err := doc.Resolve(Selection{Arch: "x86_64", Profiles: []string{profile}, SkipChecks: []string{AllChecks}})
			if err != nil {
				t.Fatal(err)
			}
			img.FS = nil
			models[profile] = withoutPositions(t, img)
		}
		data, err := json.MarshalIndent(models, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, strings.TrimSuffix(file, ".kiwi")+".json", string(data)+"\n")
	})
}

// withoutPositions turns a model into plain values without what is empty.
func withoutPositions(t *testing.T, v any) any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		t.Fatal(err)
	}
	return prune(plain)
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, item := range v {
			item = prune(item)
			if key == "Pos" || key == "SourcePos" || isEmpty(item) {
				delete(v, key)
				continue
			}
			v[key] = item
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case float64:
		return v == 0
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}
