package appx

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

const sampleManifest = `<?xml version="1.0" encoding="utf-8"?>
<!-- a comment with <Identity Version="no"/> stays -->
<Package xmlns="http://schemas.microsoft.com/appx/manifest/foundation/windows10"
  xmlns:uap="http://schemas.microsoft.com/appx/manifest/uap/windows10" xmlns:desktop="http://schemas.microsoft.com/appx/manifest/desktop/windows10">
  <Identity Name="Example.Distro" Version='0.0.0.0' ProcessorArchitecture="x86" Publisher = "CN=old" />
  <Properties><DisplayName>Distro</DisplayName></Properties>
  <Applications>
    <Application Id="old" Executable="old.exe">
      <uap:VisualElements DisplayName="Distro" Description="old"/>
      <Extensions><uap:Extension Category="windows.appExecutionAlias"><desktop:ExecutionAlias Alias="old.exe"/></uap:Extension></Extensions>
    </Application>
  </Applications>
</Package>
`

const config = `<containerconfig name="distro">
  <history author="A" created_by="CN=&quot;Example, Inc&quot;" application_id="Distro" package_version="1.2.3.4" launcher="distro.exe">A distribution für 人 &amp; more</history>
</containerconfig>`

func request(t *testing.T, kind string) *image.Request {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000})
	for name, data := range map[string]string{"etc/hosts": "localhost", "boot/vmlinuz-1": "kernel", "dev/x": "", "image/config.xml": "", "usr/bin/large": strings.Repeat("some text\n", 100000)} {
		if err := edit.WriteFile(name, []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for name, data := range map[string]string{
		manifestName: sampleManifest, "distro.exe": strings.Repeat("program ", 30000), "Assets/a logo.png": "png", "resources.pri": "", "noextension": "x", blockMapName: "stale",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	attributes, content := "", ""
	if kind == "appx" {
		attributes, content = `metadata_path="`+dir+`"`, config
	}
	return imagetest.Request(t, edit.Tree(), kind, attributes, content)
}

func TestManifestIsRewritten(t *testing.T) {
	r := request(t, "appx")
	got, err := rewrite([]byte(sampleManifest), changes(r.Description))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(
		`<Identity Name="Example.Distro" Version='0.0.0.0' ProcessorArchitecture="x86" Publisher = "CN=old" />`,
		`<Identity Name="Example.Distro" Version="1.2.3.4" ProcessorArchitecture="x64" Publisher = "CN=&#34;Example, Inc&#34;" />`,
		`Id="old" Executable="old.exe"`, `Id="Distro" Executable="distro.exe"`, `Description="old"`, `Description="A distribution für 人 &amp; more"`,
		`Category="windows.appExecutionAlias"`, `Category="windows.appExecutionAlias" Executable="distro.exe"`, `Alias="old.exe"`, `Alias="distro.exe"`,
	).Replace(sampleManifest)
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	latin := strings.Replace(sampleManifest, "utf-8", "windows-1252", 1)
	if _, err := rewrite([]byte(latin), changes(r.Description)); err == nil || !strings.Contains(err.Error(), "it is in windows-1252; write it in UTF-8") {
		t.Errorf("the error is %v", err)
	}
	for _, bad := range []string{"", "<Other/>", "<Package", "<Package></Other>"} {
		if _, err := rewrite([]byte(bad), changes(r.Description)); err == nil {
			t.Errorf("%q was taken for a manifest", bad)
		}
	}
}

// TestBlockMapIsRight checks every file of the package against the map, as Windows does.
func TestBlockMapIsRight(t *testing.T) {
	data, err := os.ReadFile(imagetest.Build(t, Builder{}, request(t, "appx")))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*zip.File{}
	var names []string
	for _, f := range archive.File {
		files[f.Name] = f
		names = append(names, f.Name)
	}
	want := []string{"Assets/a%20logo.png", "distro.exe", "noextension", "resources.pri", rootArchive, manifestName, blockMapName, contentTypesName}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatal(diff)
	}
	var m blockMap
	if err := xml.Unmarshal(content(t, files[blockMapName]), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Files) != len(want)-2 {
		t.Errorf("the map has %d files", len(m.Files))
	}
	for _, file := range m.Files {
		f := files[partName(strings.ReplaceAll(file.Name, `\`, "/"))]
		if f == nil {
			t.Fatalf("%s is not in the package", file.Name)
		}
		offset, err := f.DataOffset()
		if err != nil {
			t.Fatal(err)
		}
		if header := bytes.LastIndex(data[:offset], []byte("PK\x03\x04")); int(offset)-header != file.LfhSize {
			t.Errorf("%s: the header has %d bytes, not %d", file.Name, int(offset)-header, file.LfhSize)
		}
		checkBlocks(t, file, f, data[offset:offset+int64(f.CompressedSize64)], content(t, f))
	}
	types := string(content(t, files[contentTypesName]))
	for _, want := range []string{`Extension="exe" ContentType="application/x-msdownload"`, `PartName="/noextension"`, `PartName="/AppxBlockMap.xml" ContentType="application/vnd.ms-appx.blockmap+xml"`} {
		if !strings.Contains(types, want) {
			t.Errorf("the content types lack %s: %s", want, types)
		}
	}
}

// checkBlocks decompresses each block by itself and compares its digest.
func checkBlocks(t *testing.T, file mapFile, f *zip.File, packed, plain []byte) {
	t.Helper()
	if int64(len(plain)) != file.Size || len(file.Blocks) != (len(plain)+blockSize-1)/blockSize {
		t.Errorf("%s has %d bytes, and in the map %d in %d blocks", file.Name, len(plain), file.Size, len(file.Blocks))
		return
	}
	sum := 0
	for i, b := range file.Blocks {
		want := plain[i*blockSize : min((i+1)*blockSize, len(plain))]
		digest := sha256.Sum256(want)
		if b.Hash != base64.StdEncoding.EncodeToString(digest[:]) {
			t.Errorf("%s: the digest of block %d is wrong", file.Name, i)
		}
		if f.Method == zip.Store {
			if b.Size != 0 {
				t.Errorf("%s: a stored block has a size", file.Name)
			}
			continue
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(packed[sum:sum+b.Size])), got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: block %d can't be read by itself: %v", file.Name, i, err)
		}
		sum += b.Size
	}
	if f.Method != zip.Store && len(plain) > 0 && sum != len(packed) {
		t.Errorf("%s: the blocks have %d bytes, the file %d", file.Name, sum, len(packed))
	}
}

func content(t *testing.T, f *zip.File) []byte {
	t.Helper()
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestForeignReaders(t *testing.T) {
	testenv.NeedPrograms(t, "python3", "tar")
	file := imagetest.Build(t, Builder{}, request(t, "appx"))
	dir := t.TempDir()
	testenv.Run(t, "python3", "-c", "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; z.extractall(sys.argv[2])", file, dir)
	list := testenv.Run(t, "tar", "-tzf", filepath.Join(dir, rootArchive))
	for name, there := range map[string]bool{"usr/bin/large": true, "etc/hosts": true, "boot/vmlinuz-1": false, "dev/x": false, "image/": false} {
		if strings.Contains(list, name) != there {
			t.Errorf("%s in the root tree: %v; it has %s", name, !there, list)
		}
	}
}

func TestWSL(t *testing.T) {
	testenv.NeedPrograms(t, "tar")
	file := imagetest.Build(t, Builder{}, request(t, "wsl"))
	if !strings.HasSuffix(file, imagetest.BaseName+".wsl") {
		t.Errorf("the result is %s", file)
	}
	if out := testenv.Run(t, "tar", "-xzOf", file, "etc/wsl-distribution.conf"); !strings.Contains(out, "defaultName = Test-VM") {
		t.Errorf("the distribution's file says %q", out)
	}
	r := request(t, "wsl")
	edit := r.Tree.Edit(layers.Timespec{})
	if err := edit.WriteFile(distributionFile, []byte("own"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.Tree = edit.Tree()
	if out := testenv.Run(t, "tar", "-xzOf", imagetest.Build(t, Builder{}, r), "etc/wsl-distribution.conf"); out != "own" {
		t.Errorf("the description's own file became %q", out)
	}
}

func TestReproducible(t *testing.T) {
	for _, kind := range []string{"appx", "wsl"} {
		one, err := os.ReadFile(imagetest.Build(t, Builder{}, request(t, kind)))
		if err != nil {
			t.Fatal(err)
		}
		two, err := os.ReadFile(imagetest.Build(t, Builder{}, request(t, kind)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, two) {
			t.Errorf("%s: two builds differ", kind)
		}
	}
}

// manifestAnd is a directory with all that a package needs, and a file more.
func manifestAnd(name string, file *fstest.MapFile) fstest.MapFS {
	return fstest.MapFS{"meta/" + manifestName: {Data: []byte(sampleManifest)}, "meta/distro.exe": {}, name: file}
}

// manifestWithout is one whose manifest has something else in the place of old.
func manifestWithout(old, other string) fstest.MapFS {
	return manifestAnd("meta/"+manifestName, &fstest.MapFile{Data: []byte(strings.ReplaceAll(sampleManifest, old, other))})
}

func TestPublishersThatWindowsRefuses(t *testing.T) {
	r := request(t, "appx")
	for _, bad := range []string{"Example", "CN=a, b", `CN="a`} {
		r.Description.Type.Container.History.CreatedBy = bad
		if err := (Builder{}).Check(t.Context(), r); err == nil || !strings.Contains(err.Error(), "is no distinguished name; write it as CN=Example") {
			t.Errorf("%q: error is %v", bad, err)
		}
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	r := request(t, "appx")
	r.Description.Type.MetadataPath = "meta"
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"directory": {fstest.MapFS{}, "can't be read"},
		"manifest":  {fstest.MapFS{"meta/distro.exe": {}}, "has no AppxManifest.xml"},
		"launcher":  {fstest.MapFS{"meta/" + manifestName: {Data: []byte(sampleManifest)}}, "launcher distro.exe is not in"},
		"identity":  {manifestWithout(`<Identity Name="Example.Distro" Version='0.0.0.0' ProcessorArchitecture="x86" Publisher = "CN=old" />`, ""), "no element Identity"},
		"name":      {manifestWithout(`Name="Example.Distro"`, ""), "no attribute Name"},
		"program":   {manifestWithout("Application", "Program"), "no element Application"},
		"link":      {manifestAnd("meta/link", &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte("nowhere")}), "in the directory meta, link can't be read"},
		"pipe":      {manifestAnd("meta/pipe", &fstest.MapFile{Mode: fs.ModeNamedPipe}), "pipe is no file"},
		"case":      {manifestAnd("meta/Distro.exe", &fstest.MapFile{}), "have the same name for Windows; rename one"},
		"colon":     {manifestAnd("meta/a:b", &fstest.MapFile{}), `"a:b" has a ":" in its name`},
		"dot":       {manifestAnd("meta/a./b", &fstest.MapFile{}), `"a./b" has a "." in its name`},
		"no XML":    {fstest.MapFS{"meta/" + manifestName: {Data: []byte("<Package")}, "meta/distro.exe": {}}, "reading AppxManifest.xml"},
	} {
		r.Description.FS = c.files
		if err := (Builder{}).Check(t.Context(), r); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "config.xml:") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}
