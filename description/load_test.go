package description

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const minimal = `<image schemaversion="7.6" name="NAME">
<description type="system"><author>A</author><contact>c</contact><specification>s</specification></description>
<preferences><version>1.0.0</version><type image="tbz"/></preferences>
PARTS
</image>`

// small returns a valid description with further parts.
func small(name string, parts ...string) string {
	return strings.NewReplacer("NAME", name, "PARTS", strings.Join(parts, "\n")).Replace(minimal)
}

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadFindsTheDescription(t *testing.T) {
	tests := []struct {
		name  string
		files []string
		opts  LoadOptions
		want  string
	}{
		{"config.xml first", []string{"config.xml", "image/config.xml", "a.kiwi"}, LoadOptions{}, "config.xml"},
		{"then image", []string{"image/config.xml", "a.kiwi"}, LoadOptions{}, "image/config.xml"},
		{"then the first kiwi", []string{"b.kiwi", "a.kiwi", "readme"}, LoadOptions{}, "a.kiwi"},
		{"as asked for", []string{"config.xml", "b.kiwi"}, LoadOptions{File: "b.kiwi"}, "b.kiwi"},
		{"in a folder", []string{"config.xml", "x/b.kiwi"}, LoadOptions{File: "x/b.kiwi"}, "x/b.kiwi"},
	}
	for _, tt := range tests {
		files := map[string]string{}
		for i, f := range tt.files {
			files[f] = small("image" + string(rune('0'+i)))
		}
		dir := writeFiles(t, files)
		doc, err := Load(dir, tt.opts)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := strings.TrimPrefix(doc.root.pos.File, dir+"/"); got != tt.want {
			t.Errorf("%s: found %s, want %s", tt.name, got, tt.want)
		}
		if data, err := fs.ReadFile(doc.FS, doc.File); err != nil || !strings.Contains(string(data), doc.Name()) {
			t.Errorf("%s: the document's file system does not hold %s: %v", tt.name, doc.File, err)
		}
		if _, err := os.Stat(filepath.Join(doc.Dir, doc.File)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestLoadWithoutDescription(t *testing.T) {
	dir := writeFiles(t, map[string]string{"readme": "x", "secret.xml": small("x")})
	_, err := Load(dir, LoadOptions{})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "config.xml") {
		t.Errorf("empty directory: %v", err)
	}
	for _, file := range []string{"missing.kiwi", "../secret.xml", "/etc/passwd", "."} {
		if _, err := Load(dir, LoadOptions{File: file}); err == nil {
			t.Errorf("file %q: no error", file)
		}
	}
	if _, err := Load(filepath.Join(dir, "missing"), LoadOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestLoadNeverLeavesTheDirectory(t *testing.T) {
	outside := writeFiles(t, map[string]string{"secret.xml": small("secret")})
	dir := writeFiles(t, map[string]string{"part/x": ""})
	secret := filepath.Join(outside, "secret.xml")
	if err := os.Symlink(secret, filepath.Join(dir, "config.xml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, LoadOptions{File: "config.xml"}); err == nil {
		t.Error("a link out of the directory is followed")
	}
	if err := os.Remove(filepath.Join(dir, "config.xml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	text := small("x", `<include from="this://link/secret.xml"/>`)
	if err := os.WriteFile(filepath.Join(dir, "config.xml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, LoadOptions{}); err == nil {
		t.Error("an include follows a link out of the directory")
	}
	text = small("x", `<include from="file://`+secret+`"/>`)
	fsys := fstest.MapFS{"config.xml": {Data: []byte(text)}}
	if _, err := LoadFS(fsys, "image", LoadOptions{}); err == nil || !strings.Contains(err.Error(), "may not read files of this machine") {
		t.Errorf("a description of a root tree reads files of the machine: %v", err)
	}
}

func TestInclude(t *testing.T) {
	part := func(name string) string {
		return `<image><packages type="image"><package name="` + name + `"/></packages></image>`
	}
	outside := writeFiles(t, map[string]string{"out.xml": part("outside")})
	dir := writeFiles(t, map[string]string{
		"config.xml": small("x",
			`<include from="this://a.xml"/>`, `<include from="this:///sub/b.xml"/>`,
			`<include from="file://c.xml"/>`, `<include from="d.xml"/>`,
			`<include from="this://parts"/>`, `<include from="file://`+outside+`/out.xml"/>`),
		"a.xml": part("a"), "sub/b.xml": part("b"), "c.xml": part("c"), "d.xml": part("d"),
		"parts/2.xml": part("second"), "parts/1.xml": part("first"), "parts/readme": "not XML",
	})
	img := resolveDir(t, dir, Selection{})
	want := []string{"a", "b", "c", "d", "first", "outside", "second"}
	if diff := cmp.Diff(want, Names(img.Packages.System.Packages)); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	if got := img.Packages.System.Packages[0].Pos; got.File != filepath.Join(dir, "a.xml") || got.Line != 1 {
		t.Errorf("the included package stands at %s", got)
	}
}

func TestIncludeErrors(t *testing.T) {
	tests := map[string]struct{ file, want string }{
		"wrong top": {`<packages type="image"/>`, "holds <packages>"},
		"not XML":   {`<image>`, "is not closed"},
		"bad":       {`<image><packages/></image>`, "part.xml:1:8: <packages> needs the attribute type"},
	}
	for name, tt := range tests {
		dir := writeFiles(t, map[string]string{"config.xml": small("x", `<include from="this://part.xml"/>`), "part.xml": tt.file})
		if _, err := Load(dir, LoadOptions{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	dir := writeFiles(t, map[string]string{
		"config.xml": small("x", `<include from="this://part.xml"/>`),
		"part.xml":   `<image><include from="this://a.xml"/></image>`,
	})
	doc, err := Load(dir, LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := doc.Resolve(Selection{}); err == nil || !strings.Contains(err.Error(), "part.xml:1:8: an included file can't include another") {
		t.Errorf("nested includes: %v", err)
	}
	dir = writeFiles(t, map[string]string{"config.xml": small("x", `<include from="this://parts"/>`), "parts/x": ""})
	if _, err := Load(dir, LoadOptions{}); err == nil || !strings.Contains(err.Error(), "no *.xml files") {
		t.Errorf("a directory without XML files: %v", err)
	}
}

func TestHostileFiles(t *testing.T) {
	big := `<image><!--` + strings.Repeat("x", 2<<20) + `--></image>`
	dir := writeFiles(t, map[string]string{
		"bomb.kiwi": small("x", strings.Repeat(`<include from="this://part.xml"/>`, 100)),
		"pipe.kiwi": small("x", `<include from="this://pipe"/>`, `<include from="file:///dev/zero"/>`),
		"part.xml":  big,
	})
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"bomb.kiwi": "larger than 16 MiB with its includes",
		"pipe.kiwi": "pipe: it is not a regular file",
		"pipe":      "not a regular file",
		".":         "not a regular file",
	} {
		if _, err := Load(dir, LoadOptions{File: file}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %.300v, want %q", file, err, want)
		}
	}
}

// resolveDir loads and resolves a description that must be good.
func resolveDir(t *testing.T, dir string, sel Selection) *Image {
	t.Helper()
	doc, err := Load(dir, LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	img, err := doc.Resolve(sel)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestExamplesResolve(t *testing.T) {
	tests := []struct {
		dir        string
		profiles   []string
		arch       string
		filesystem string
		kernel     string
	}{
		{"leap", nil, "x86_64", "xfs", "kernel-default"},
		{"debian", nil, "x86_64", "ext4", "linux-image-cloud-amd64"},
		{"debian", []string{"xfs"}, "x86_64", "xfs", "linux-image-cloud-amd64"},
		{"debian", nil, "aarch64", "ext4", "linux-image-cloud-arm64"},
	}
	for _, tt := range tests {
		img := resolveDir(t, filepath.Join("..", "examples", "container-to-vm", tt.dir), Selection{Profiles: tt.profiles, Arch: tt.arch})
		if img.Type.Image != "oem" || img.Type.Filesystem != tt.filesystem || img.Type.Firmware != "uefi" {
			t.Errorf("%s: type %s %s %s", tt.dir, img.Type.Image, img.Type.Filesystem, img.Type.Firmware)
		}
		if img.Type.OEM.Resize.Or(true) {
			t.Errorf("%s: the disk would grow", tt.dir)
		}
		if names := Names(img.Packages.System.Packages); !contains(names, tt.kernel) {
			t.Errorf("%s: packages %v lack %s", tt.dir, names, tt.kernel)
		}
	}
}

// TestIncludeTricks tries to get something else than parts of the description.
func TestIncludeTricks(t *testing.T) {
	outside := writeFiles(t, map[string]string{"secret.xml": `<image><packages type="image"><package name="secret"/></packages></image>`})
	const doctype = `<!DOCTYPE image [<!ENTITY a "lol"><!ENTITY b "&a;&a;"><!ENTITY x SYSTEM "file:///etc/passwd">]>`
	files := map[string]string{
		"in/config.xml": "", "secret.xml": `<image><packages type="image"><package name="secret"/></packages></image>`,
		"in/self.xml":   small("x"),
		"in/xxe.xml":    doctype + `<image><packages type="image"><package name="&x;"/></packages></image>`,
		"in/laughs.xml": doctype + `<image><packages type="image"><package name="&b;"/></packages></image>`,
		"in/entity.xml": `<image><packages type="image"><package name="&b;"/></packages></image>`,
		"in/pi.xml":     `<?xml-stylesheet href="http://example.org/x.xsl"?><image xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="/etc/passwd"/></image>`,
		"in/parts/a":    "",
	}
	base := writeFiles(t, files)
	dir := filepath.Join(base, "in")
	for name, target := range map[string]string{"out.xml": filepath.Join(outside, "secret.xml"), "up.xml": "../secret.xml", "away": outside, "loop.xml": "loop.xml"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]string{
		"this://../secret.xml":           "not inside the description's directory",
		"../secret.xml":                  "not inside the description's directory",
		"file://../secret.xml":           "not inside the description's directory",
		"this://parts/../../secret.xml":  "not inside the description's directory",
		"this://":                        "names no file",
		"":                               "names no file",
		"http://example.org/a.xml":       "only this:// and file:// are known",
		"obs://a/b":                      "only this:// and file:// are known",
		"this://out.xml":                 "",
		"this://up.xml":                  "",
		"this://away/secret.xml":         "",
		"this://away":                    "",
		"this://loop.xml":                "",
		"this://missing.xml":             "no such file",
		"this://xxe.xml":                 "document type declaration is not allowed",
		"this://laughs.xml":              "document type declaration is not allowed",
		"this://entity.xml":              "entity",
		"this://pi.xml":                  "can't hold <xi:include>",
		"this://self.xml":                "can hold only one <description>",
		"file:///dev/zero":               "not a regular file",
		"file://localhost/etc/passwd":    "no such file",
		"this://secret.xml\x00../../etc": "",
	}
	for from, want := range tests {
		text := small("x", `<include from="`+strings.ReplaceAll(from, "\x00", "&#x1;")+`"/>`)
		if err := os.WriteFile(filepath.Join(dir, "config.xml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		doc, err := Load(dir, LoadOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", from, err, want)
		}
		if doc != nil && strings.Contains(string(doc.XML()), "secret") {
			t.Errorf("%q brings the secret in", from)
		}
		var errs Errors
		if err != nil && !errors.As(err, &errs) {
			t.Errorf("%q: an error without a position: %v", from, err)
		}
	}
}

// TestIncludeInOtherFormats includes a part from YAML, and a part in TOML.
func TestIncludeInOtherFormats(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"config.xml": "image:\n  schemaversion: '7.6'\n  name: x\n  description: {type: system, author: a, contact: c, specification: s}\n" +
			"  preferences: {version: 1.0.0, type: {image: tbz}}\n  include: [{from: this://a.xml}, {from: this://b.toml}]\n",
		"a.xml":  `<image><packages type="image"><package name="a"/></packages></image>`,
		"b.toml": "[image.packages]\ntype = \"image\"\npackage = [{name = \"b\"}]\n",
	})
	img := resolveDir(t, dir, Selection{})
	if names := Names(img.Packages.System.Packages); strings.Join(names, " ") != "a b" {
		t.Errorf("packages %v", names)
	}
	if diff := cmp.Diff([]string{filepath.Join(dir, "a.xml"), filepath.Join(dir, "b.toml")}, img.doc.Included); diff != "" {
		t.Errorf("included files (-want +got):\n%s", diff)
	}
}

// TestErrorsAreToldOnce has a description of 2006, one type of which is two in its new form.
func TestErrorsAreToldOnce(t *testing.T) {
	files := fstest.MapFS{
		"VERSION":    {Data: []byte("1.0.0\n")},
		"config.xml": {Data: []byte("<directory>\n<image name='a' type='vfat'/><entry type='apt-deb' source='http://deb.debian.org/debian'/><xenvm name='kernel'/></directory>")},
	}
	_, err := LoadFS(files, "", LoadOptions{})
	if err == nil || strings.Count(err.Error(), `"vfat" is not known`) != 1 {
		t.Errorf("error is %v", err)
	}
}
