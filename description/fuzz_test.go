package description

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// FuzzLoad loads and resolves arbitrary descriptions. Whatever they hold, each
// error has a position inside the file, the written form is stable, and the
// model can be made for every profile.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/*/*.kiwi", "../examples/container-to-vm/*/*.kiwi"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds at %s: %v", pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte("image:\n  schemaversion: '7.6'\n  name: x\n  packages: [{type: image, package: [{name: vim}, {name: &a nano}, *a]}]\n"))
	f.Add([]byte(`{"image": {"@schemaversion": "8.5", "@name": "x", "preferences": {"type": {"@image": "tbz"}}}}`))
	f.Add([]byte("[image]\nschemaversion = '7.6'\nname = 'x'\n[[image.packages]]\ntype = 'image'\npackage = [{name = 'vim'}]\n"))
	f.Add([]byte(small("seed", profiled, withRepositories)))
	f.Fuzz(func(t *testing.T, data []byte) {
		load := func(data []byte) (*Document, error) {
			fsys := fstest.MapFS{"config.xml": {Data: data}, "part.xml": {Data: []byte("<image/>")}}
			return LoadFS(fsys, "", LoadOptions{})
		}
		doc, err := load(data)
		if err != nil {
			checkPositions(t, err, data)
			return
		}
		written := doc.XML()
		again, err := load(written)
		if err != nil {
			t.Fatalf("the written form is refused: %v\n%s", err, written)
		}
		if string(again.XML()) != string(written) {
			t.Fatalf("the written form is not stable:\n%s\n%s", written, again.XML())
		}
		for _, profile := range append(doc.ProfileNames(), "") {
			sel := Selection{Arch: "x86_64"}
			if profile != "" {
				sel.Profiles = []string{profile}
			}
			img, err := doc.Resolve(sel)
			if err != nil {
				checkPositions(t, err, data)
				continue
			}
			img.ProfileFile()
		}
	})
}

// FuzzUpgrade writes whatever can be loaded in every format, upgraded: what is
// written can be read and means the same.
func FuzzUpgrade(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.kiwi")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, tt := range upgradeTests {
		f.Add([]byte(strings.Replace(small("x", tt.parts), `"7.6"`, `"`+tt.from+`"`, 1)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := loadText(string(data))
		if err != nil {
			return
		}
		for _, sel := range doc.Selections(Selection{Arch: "x86_64"})[:1] {
			want, img := plainModel(t, doc, sel)
			if img == nil {
				continue
			}
			for _, format := range []Format{FormatXML, FormatYAML, FormatJSON, FormatTOML} {
				encoded, err := doc.Encode(format)
				if err != nil {
					t.Fatal(err)
				}
				again, err := loadText(string(encoded))
				if err != nil {
					t.Fatalf("%s is refused: %v\n%s", format, err, encoded)
				}
				if got, _ := plainModel(t, again, sel); cmp.Diff(want, got) != "" {
					t.Fatalf("%s means something else (-want +got):\n%s\n%s", format, cmp.Diff(want, got), encoded)
				}
			}
			if _, err := img.View(FormatJSON); err != nil {
				t.Fatal(err)
			}
			if left, err := loadText(string(img.Resolved().XML())); err != nil {
				t.Fatalf("what is left for a selection is refused: %v\n%s", err, img.Resolved().XML())
			} else if _, err := left.Resolve(Selection{Arch: "x86_64", SkipChecks: []string{AllChecks}}); err != nil {
				t.Fatalf("what is left for a selection: %v", err)
			}
		}
	})
}

func checkPositions(t *testing.T, err error, data []byte) {
	t.Helper()
	var errs Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("an error without positions: %v", err)
	}
	// YAML has more line breaks than one.
	lines := 1
	for _, r := range string(data) {
		if strings.ContainsRune("\n\r\u0085\u2028\u2029", r) {
			lines++
		}
	}
	for _, e := range errs {
		if e.Pos.File == "config.xml" && e.Pos.Line > lines {
			t.Errorf("%v: the file has %d lines", e, lines)
		}
		if e.Text == "" || strings.Contains(e.Error(), "%!(") && !strings.Contains(string(data), "%!(") || len(e.Error()) > 4000 {
			t.Errorf("a bad message: %v", e)
		}
	}
}
