package legacy2006

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

var update = flag.Bool("update", false, "write the expected files anew")

func TestExample(t *testing.T) {
	fsys := os.DirFS("testdata/browser")
	if !Is(fsys, "config.xml") {
		t.Fatal("it is not known for what it is")
	}
	u, err := Upgrade(fsys, "config.xml", "browser/config.xml")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.Write(u.XML)
	for _, w := range u.Warnings {
		fmt.Fprintf(&b, "warning: %v\n", w)
	}
	for _, name := range []string{"config.sh", "images.sh"} {
		fmt.Fprintf(&b, "== %s %v\n%s", name, u.Files[name].Mode, u.Files[name].Data)
	}
	const golden = "testdata/browser.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Error(diff)
	}
	lines := strings.Split(strings.TrimSuffix(string(u.XML), "\n"), "\n")
	if len(lines) != len(u.Lines) {
		t.Fatalf("%d lines, %d positions", len(lines), len(u.Lines))
	}
	for i, line := range lines {
		if strings.Contains(line, "MozillaFirefox") {
			if diff := cmp.Diff(Position{"browser/config.xml", 21, 3}, u.Lines[i]); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestFS(t *testing.T) {
	old := os.DirFS("testdata/browser")
	u, err := Upgrade(old, "config.xml", "config.xml")
	if err != nil {
		t.Fatal(err)
	}
	files := u.FS(old)
	if err := fstest.TestFS(files, "config.sh", "images.sh", "root/etc/motd", Folder+"/config/aaa_base", Folder+"/config.sh", "VERSION"); err != nil {
		t.Error(err)
	}
	info, err := fs.Stat(files, Folder+"/config.sh")
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	before, err := fs.ReadFile(old, "config.sh")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := fs.ReadFile(files, Folder+"/config.sh")
	if err != nil || string(kept) != string(before) {
		t.Errorf("the old config.sh is %q, %v", kept, err)
	}
}

func description(config string, more ...string) fstest.MapFS {
	files := fstest.MapFS{"config.xml": {Data: []byte(config)}, "VERSION": {Data: []byte("1.2.3\n")}}
	for i := 0; i+1 < len(more); i += 2 {
		files[more[i]] = &fstest.MapFile{Data: []byte(more[i+1]), Mode: 0o644}
	}
	return files
}

func TestIs(t *testing.T) {
	for text, want := range map[string]bool{
		"<directory/>": true, "<?xml version='1.0' encoding='ISO-8859-1'?>\n<!-- x -->\n<directory>": true, "<image/>": false, "": false, "directory": false,
		`<?xml version="1.0" encoding="EBCDIC"?><directory/>`: false, "\x00\xff": false,
	} {
		if got := Is(description(text), "config.xml"); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if Is(fstest.MapFS{}, "config.xml") {
		t.Error("a file that is not there")
	}
}

func TestErrors(t *testing.T) {
	const ok = `<image name="a"/><image type="ext3"/>`
	for _, test := range []struct {
		name  string
		files fstest.MapFS
		want  []string
	}{
		{"no version", fstest.MapFS{"config.xml": {Data: []byte("<directory>" + ok + "</directory>")}}, []string{"d/VERSION:1:1:", "no file VERSION", "Major.Minor.Release"}},
		{"bad version", description("<directory>"+ok+"</directory>", "VERSION", "two"), []string{`"two" is not a version`}},
		{"no name", description("<directory><image type='ext2'/></directory>"), []string{"d/config.xml:1:1: the description does not name its image"}},
		{"no type", description("<directory><image name='a'/></directory>"), []string{"of what type"}},
		{"size", description("<directory>\n" + ok + "<image size='big'/></directory>"), []string{`:2:38: "big" is not a size`, "500M"}},
		{"element", description("<directory>" + ok + "<entries/></directory>"), []string{"unknown element <entries>", "xenvm"}},
		{"no name of a package", description("<directory>" + ok + "<cpios/></directory>"), []string{"<cpios> needs the attribute name"}},
		{"repository", description("<directory>" + ok + "<entry type='up2date' source='x'/></directory>"), []string{`"up2date"`, "rpm-md"}},
		{"not XML", description("<directory>\n<image"), []string{"d/config.xml:2:1: the file is not well-formed XML"}},
		{"several", description("<directory><a/><b/></directory>"), []string{"<a>", "<b>", "name", "type"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Upgrade(test.files, "config.xml", "d/config.xml")
			if err == nil {
				t.Fatal("no error")
			}
			var first *Problem
			if !errors.As(err, &first) {
				t.Errorf("%T", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q has no %q", err, want)
				}
			}
		})
	}
}

func TestEscapes(t *testing.T) {
	config := "<?xml version='1.0' encoding='ISO-8859-1'?><directory><image name='a&lt;&quot;b' type='ext3' place='M\xfcnchen&#39;s &#10; x'/><entry name='p&amp;q'/><entry type='apt-deb' source='http://h/?a=1&amp;b=2'/></directory>"
	u, err := Upgrade(description(config, "config.sh", "x"), "config.xml", "c")
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Name     string `xml:"name,attr"`
		Packages struct {
			Package struct {
				Name string `xml:"name,attr"`
			} `xml:"package"`
		} `xml:"packages"`
		Manager string `xml:"preferences>packagemanager"`
	}
	if err := xml.Unmarshal(u.XML, &parsed); err != nil {
		t.Fatal(err)
	}
	if parsed.Name != `a<"b` || parsed.Packages.Package.Name != "p&q" || parsed.Manager != "apt" {
		t.Errorf("%+v", parsed)
	}
	bash := testenv.NeedProgram(t, "bash")
	script := strings.Split(string(u.Files["config.sh"].Data), "run() {")[0] + `printf '%s' "$place"`
	out, err := exec.Command(bash, "-c", script).Output()
	if err != nil || string(out) != "M\u00fcnchen's \n x" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestScripts runs what was made of the scripts, with a rpm that knows one package.
func TestScripts(t *testing.T) {
	bash := testenv.NeedProgram(t, "bash")
	dir := t.TempDir()
	files := description("<directory><image name='a' type='ext3'/><entry name='there'/><entry name='gone'/></directory>",
		"config.sh", "echo config $name $type\n", "images.sh", "#!/bin/sh\nexit 3\n", "config/there", "#!/bin/sh\necho for $0\n", "config/gone", "echo never\n")
	files["config.sh"].Mode = 0o755
	u, err := Upgrade(files, "config.xml", "c")
	if err != nil {
		t.Fatal(err)
	}
	if len(u.Warnings) > 0 {
		t.Error(u.Warnings)
	}
	for name, file := range u.Files {
		path := filepath.Join(dir, "image", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(file.Data), "/image/", dir+"/image/")), file.Mode|0o400); err != nil {
			t.Fatal(err)
		}
	}
	rpm := filepath.Join(dir, "rpm")
	if err := os.WriteFile(rpm, []byte("#!/bin/sh\ntest \"$2\" = there\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(name string) (string, error) {
		cmd := exec.Command(bash, filepath.Join(dir, "image", name))
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return strings.ReplaceAll(string(out), dir, ""), err
	}
	out, err := run("config.sh")
	if diff := cmp.Diff("config a ext3\nfor /image/legacy2006/config/there\n", out); diff != "" || err != nil {
		t.Error(diff, err)
	}
	out, err = run("images.sh")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || out != "/image/legacy2006/images.sh failed\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// FuzzUpgrade looks for descriptions that end the program, or whose upgrade is not XML.
func FuzzUpgrade(f *testing.F) {
	example, err := os.ReadFile("testdata/browser/config.xml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example), "1.1.2\n")
	f.Add("<directory><image name='a' type='b' size='1G'/><entry type='rpm-md' source='/x'/></directory>", "0.0.0")
	f.Add("<directory", "1")
	f.Fuzz(func(t *testing.T, config, version string) {
		u, err := Upgrade(description(config, "VERSION", version, "config.sh", config, "config/"+"a", "x"), "config.xml", "c")
		if err != nil {
			return
		}
		if err := xml.Unmarshal(u.XML, new(struct{})); err != nil {
			t.Errorf("%v\n%s", err, u.XML)
		}
		if lines := strings.Count(string(u.XML), "\n"); lines != len(u.Lines) {
			t.Errorf("%d lines, %d positions", lines, len(u.Lines))
		}
	})
}
