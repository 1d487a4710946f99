package description

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// plainModel returns the model of a selection without what tells where it was
// read from, or the error.
func plainModel(t *testing.T, doc *Document, sel Selection) (any, *Image) {
	t.Helper()
	sel.SkipChecks = []string{AllChecks}
	img, err := doc.Resolve(sel)
	if err != nil {
		return err.(Errors)[0].Text, nil
	}
	plain := *img
	plain.FS, plain.Dir, plain.File, plain.SchemaVersion, plain.Warnings = nil, "", "", "", nil
	data, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	var model any
	if err := json.Unmarshal(data, &model); err != nil {
		t.Fatal(err)
	}
	return prune(model), img
}

// TestUpgradedIsTheSame reads each description of the tests and of the corpus,
// writes it upgraded in each format, reads that, and compares the models and
// the variables for scripts of all selections. The description that is left for
// one selection gives the same model again.
func TestUpgradedIsTheSame(t *testing.T) {
	descriptions, cases := 0, 0
	for _, file := range schemaInputs(t) {
		doc, err := Load(filepath.Dir(file), LoadOptions{File: filepath.Base(file)})
		if err != nil {
			continue
		}
		descriptions++
		again := map[Format]*Document{}
		for _, f := range []Format{FormatXML, FormatYAML, FormatJSON, FormatTOML} {
			again[f] = reread(t, doc, f)
		}
		for _, sel := range doc.Selections(Selection{Arch: "x86_64"}) {
			cases++
			want, img := plainModel(t, doc, sel)
			if img == nil {
				continue
			}
			variables := string(img.ProfileFile())
			for f, other := range again {
				got, otherImage := plainModel(t, other, sel)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s in %s for %v (-want +got):\n%s", file, f, sel, diff)
				}
				if diff := cmp.Diff(variables, string(otherImage.ProfileFile())); diff != "" {
					t.Fatalf("%s in %s for %v: .profile (-want +got):\n%s", file, f, sel, diff)
				}
			}
			checkResolved(t, file, img, want)
		}
	}
	t.Logf("%d descriptions, %d cases", descriptions, cases)
}

// reread writes a document in a format and reads that.
func reread(t *testing.T, doc *Document, f Format) *Document {
	t.Helper()
	data, err := doc.Encode(f)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadFS(fstest.MapFS{"config.xml": {Data: data}}, "", LoadOptions{})
	if err != nil {
		t.Fatalf("%s in %s: %v\n%s", doc.File, f, err, data)
	}
	if again.Format != f || again.Written != doc.version.String() {
		t.Errorf("%s in %s is read as %s, version %s", doc.File, f, again.Format, again.Written)
	}
	return again
}

// checkResolved compares the model with that of the description which is left
// for its selection. Credentials are not in it, and no profiles.
func checkResolved(t *testing.T, file string, img *Image, want any) {
	t.Helper()
	left := reread(t, img.Resolved(), FormatXML)
	if len(left.ProfileNames()) > 0 {
		t.Errorf("%s: profiles are left: %v", file, left.ProfileNames())
	}
	got, _ := plainModel(t, left, Selection{Arch: img.Arch})
	clean := func(v any) any {
		top, ok := v.(map[string]any)
		if !ok {
			return v
		}
		copied := map[string]any{}
		for key, value := range top {
			if key != "Profiles" && key != "Repositories" {
				copied[key] = value
			}
		}
		return copied
	}
	if diff := cmp.Diff(clean(want), clean(got)); diff != "" {
		t.Fatalf("%s for %v %s, resolved (-want +got):\n%s\n%s", file, img.Profiles, img.Type.Image, diff, img.Resolved().XML())
	}
}

// TestResolvedKeepsMachines makes sure that the architecture of a virtual
// machine is not taken for a condition.
func TestResolvedKeepsMachines(t *testing.T) {
	doc := loadString(t, small("x", `<preferences><type image="oem" filesystem="ext4" format="vmdk"><machine arch="ix86" memory="64"/></type></preferences>`))
	img, err := doc.Resolve(Selection{Arch: "x86_64", Type: "oem"})
	if err != nil {
		t.Fatal(err)
	}
	if text := string(img.Resolved().XML()); !strings.Contains(text, `<machine arch="ix86" memory="64"/>`) {
		t.Errorf("the machine is gone:\n%s", text)
	}
}

func TestEncode(t *testing.T) {
	doc := loadString(t, `<image schemaversion="7.6" name="x" xmlns:o="http://example.org">
<!-- first
line --><description type="system"><author>A "quoted" &amp; long: yes</author><contact>a</contact><contact>b</contact><specification/></description>
<preferences><version>1.10</version><type image="oci"><containerconfig name="c"><history author="a">said</history></containerconfig></type></preferences>
<packages type="image"><package name="no"/><package name="0123"/></packages>
<extension><o:thing a="1">text</o:thing></extension></image>`)
	for f, file := range map[Format]string{FormatYAML: "yaml", FormatJSON: "json", FormatTOML: "toml", FormatXML: "xml"} {
		data, err := doc.Encode(f)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("testdata", "encode", "image."+file), string(data))
		again := reread(t, doc, f)
		if f == FormatXML && string(again.XML()) != string(doc.XML()) {
			t.Errorf("%s loses something:\n%s", f, again.XML())
		}
	}
	if _, err := doc.Encode("ini"); err == nil {
		t.Error("an unknown format is written")
	}
	for name, want := range map[string]Format{"yml": FormatYAML, "YAML": FormatYAML, "xml": FormatXML} {
		if f, err := ParseFormat(name); err != nil || f != want {
			t.Errorf("%s: %s %v", name, f, err)
		}
	}
	if _, err := ParseFormat("ini"); err == nil {
		t.Error("ini is a format")
	}
}

func TestView(t *testing.T) {
	data, err := os.ReadFile("testdata/resolve/everything.kiwi")
	if err != nil {
		t.Fatal(err)
	}
	img, err := loadString(t, string(data)).Resolve(Selection{Arch: "x86_64", Profiles: []string{"disk"}, SkipChecks: []string{AllChecks}})
	if err != nil {
		t.Fatal(err)
	}
	for f, file := range map[Format]string{"": "txt", FormatJSON: "json", FormatYAML: "yaml"} {
		text, err := img.View(f)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("testdata", "view", "everything."+file), string(text))
	}
}
