package layers

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	umoci "github.com/opencontainers/umoci/oci/layer"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// tarOf makes a tar of the headers; what is in contents under the index of a header is its data.
func tarOf(t testing.TB, headers []*tar.Header, contents map[int]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i, h := range headers {
		h.Size = int64(len(contents[i]))
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, contents[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// file, folder, symlink and hardlink are short forms of headers.
func file(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(1000, 0)}
}

func folder(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o750, ModTime: time.Unix(2000, 0)}
}

func symlink(name, target string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: time.Unix(3000, 0)}
}

func hardlink(name, target string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: time.Unix(4000, 0)}
}

func mustRead(t testing.TB, blob []byte) *Layer {
	t.Helper()
	l, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// outline is a tree in short: one line per entry, files with content, hard links with the name of the first.
func outline(t testing.TB, tree *Tree) []string {
	t.Helper()
	var lines []string
	first := map[*Node]string{}
	err := tree.Walk(func(name string, n *Node) error {
		if other, ok := first[n]; ok {
			lines = append(lines, name+" = "+other)
			return nil
		}
		first[n] = name
		switch {
		case name == ".":
		case n.IsDir():
			lines = append(lines, name+"/")
		case n.IsSymlink():
			lines = append(lines, name+" -> "+n.Target)
		case n.IsRegular():
			data, err := tree.ReadFile(name, 1<<20)
			if err != nil && !errors.Is(err, errors.ErrUnsupported) {
				return err
			}
			lines = append(lines, strings.TrimSpace(name+" "+string(data)))
		default:
			lines = append(lines, name+" "+TypeName(n.Mode))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestApplyByTheRulesOfOCI(t *testing.T) {
	below := []*tar.Header{
		folder("etc"), file("etc/a"), file("etc/b"), folder("etc/d"), file("etc/d/x"), symlink("lib", "usr/lib"), folder("usr/lib"), file("usr/lib/l"),
		symlink("out", "/../../usr"), symlink("loop", "loop"), file("plain"), hardlink("plain2", "plain"),
	}
	contents := map[int]string{1: "A", 2: "B", 4: "X", 7: "L", 10: "P"}
	base := "etc/,etc/a A,etc/b B,etc/d/,etc/d/x X,lib -> usr/lib,loop -> loop,out -> /../../usr,plain P,plain2 = plain,usr/,usr/lib/,usr/lib/l L"
	for name, c := range map[string]struct {
		above []*tar.Header
		data  map[int]string
		drop  string // comma-separated lines of base that are gone
		add   string // and that are new
	}{
		"nothing":                   {},
		"file replaced":             {above: []*tar.Header{file("etc/a")}, data: map[int]string{0: "2"}, drop: "etc/a A", add: "etc/a 2"},
		"whiteout of a file":        {above: []*tar.Header{file("etc/.wh.a")}, drop: "etc/a A"},
		"whiteout of a directory":   {above: []*tar.Header{file("etc/.wh.d")}, drop: "etc/d/,etc/d/x X"},
		"whiteout of nothing":       {above: []*tar.Header{file("etc/.wh.none"), file("no/where/.wh.x")}},
		"whiteout of one hard link": {above: []*tar.Header{file(".wh.plain2")}, drop: "plain2 = plain"},
		"opaque directory":          {above: []*tar.Header{folder("etc"), file("etc/.wh..wh..opq"), file("etc/n")}, drop: "etc/a A,etc/b B,etc/d/,etc/d/x X", add: "etc/n"},
		"opaque after its files":    {above: []*tar.Header{file("etc/n"), file("etc/.wh..wh..opq")}, drop: "etc/a A,etc/b B,etc/d/,etc/d/x X", add: "etc/n"},
		"opaque root":               {above: []*tar.Header{file(".wh..wh..opq"), file("n")}, drop: base, add: "n"},
		"directory by file":         {above: []*tar.Header{file("etc/d")}, drop: "etc/d/,etc/d/x X", add: "etc/d"},
		"file by directory":         {above: []*tar.Header{folder("etc/a"), file("etc/a/y")}, drop: "etc/a A", add: "etc/a/,etc/a/y"},
		"link by directory":         {above: []*tar.Header{folder("lib")}, drop: "lib -> usr/lib", add: "lib/"},
		"through a link":            {above: []*tar.Header{file("lib/new")}, add: "usr/lib/new"},
		"through a link upwards":    {above: []*tar.Header{file("out/new")}, add: "usr/new"},
		"file in place of a parent": {above: []*tar.Header{file("plain/below")}, drop: "plain P,plain2 = plain", add: "plain/,plain/below,plain2 P"},
		"hard link to below":        {above: []*tar.Header{hardlink("h", "etc/a")}, add: "h = etc/a"},
		"hard link through a link":  {above: []*tar.Header{hardlink("z", "lib/l")}, drop: "", add: "z = usr/lib/l"},
		"entry before its parent":   {above: []*tar.Header{file("new/dir/f"), folder("new/dir"), folder("new")}, add: "new/,new/dir/,new/dir/f"},
		"last one wins":             {above: []*tar.Header{file("n"), file("n")}, data: map[int]string{0: "1", 1: "2"}, add: "n 2"},
		"link to the first of two":  {above: []*tar.Header{file("n"), hardlink("o", "n"), file("n")}, data: map[int]string{0: "1", 2: "2"}, add: "n 2,o 1"},
		"dots and slashes":          {above: []*tar.Header{file("./x"), file("/y"), file("//z//w"), file("q/../r")}, add: "r,x,y,z/,z/w"},
		"aufs's own files":          {above: []*tar.Header{file(".wh..wh.aufs"), file(".wh..wh.orph/x")}},
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := Apply(nil, mustRead(t, tarOf(t, below, contents)), mustRead(t, tarOf(t, c.above, c.data)))
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]bool{}
			for _, line := range strings.Split(base, ",") {
				want[line] = true
			}
			for _, line := range strings.Split(c.drop, ",") {
				delete(want, line)
			}
			for _, line := range strings.Split(c.add, ",") {
				if line != "" {
					want[line] = true
				}
			}
			got := map[string]bool{}
			for _, line := range outline(t, tree) {
				got[line] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		layer []*tar.Header
		path  string
		text  string
	}{
		"a loop of links":             {[]*tar.Header{symlink("loop", "loop"), file("loop/x")}, "loop/x", "too many symbolic links"},
		"a hard link to nothing":      {[]*tar.Header{hardlink("h", "none")}, "h", "does not exist"},
		"a hard link to a link's dir": {[]*tar.Header{folder("d"), symlink("l", "d"), hardlink("h", "l/../d")}, "h", "directory"},
	} {
		l, err := ReadLayer(t.Context(), memoryBlob(tarOf(t, c.layer, nil)), ReadOptions{})
		if err == nil {
			_, err = Apply(nil, l)
		}
		var hostile *HostileError
		var format *FormatError
		switch {
		case errors.As(err, &hostile) && hostile.Path == c.path:
		case errors.As(err, &format) && format.Path == c.path:
		default:
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The depth of a tree must be bounded, or a small layer makes walking it endless.
func TestApplyBoundsTheDepth(t *testing.T) {
	step := strings.Repeat("d/", 1000)
	var headers []*tar.Header
	at := ""
	for i := range 10 {
		link := fmt.Sprintf("l%d", i)
		headers = append(headers, folder(at+step), symlink(link, at+step))
		at = link + "/"
	}
	l := mustRead(t, tarOf(t, headers, nil))
	var hostile *HostileError
	if _, err := Apply(nil, l); !errors.As(err, &hostile) || !strings.Contains(err.Error(), "path longer") {
		t.Errorf("the error is %v", err)
	}
}

// Names ask for directories that take more memory than the names.
func TestApplyBoundsMadeUpDirectories(t *testing.T) {
	l := &Layer{}
	for i := range maxMadeUp/1000 + 1 {
		l.Entries = append(l.Entries, Entry{Kind: Put, Name: fmt.Sprint(i, strings.Repeat("/d", 1000), "/f"), Node: NewFile(nil, 0o644, Timespec{})})
	}
	var hostile *HostileError
	if _, err := Apply(nil, l); !errors.As(err, &hostile) || !strings.Contains(err.Error(), "make up") {
		t.Errorf("the error is %v", err)
	}
}

// randomLayer makes a tar with entries of all kinds in any order, of which many clash.
func randomLayer(t testing.TB, rnd *rand.Rand, entries int, whiteouts bool) []byte {
	var headers []*tar.Header
	contents := map[int]string{}
	name := func() string {
		s := string('a' + rune(rnd.IntN(4)))
		for range rnd.IntN(3) {
			s = path.Join(s, string('a'+rune(rnd.IntN(4))))
		}
		return s
	}
	for i := range entries {
		var h *tar.Header
		switch k := rnd.IntN(20); {
		case k < 6:
			h = folder(name())
		case k < 8:
			h = symlink(name(), []string{"a", "b/c", "../d", "/a/b", "../../c", "."}[rnd.IntN(6)])
		case k < 10 && len(headers) > 0:
			h = hardlink(name(), headers[rnd.IntN(len(headers))].Name)
		case k < 12 && whiteouts:
			dir, base := path.Split(name())
			h = file(dir + ".wh." + base)
		case k == 12 && whiteouts:
			h = file(name() + "/.wh..wh..opq")
		case k == 13:
			h = file(name())
			h.Typeflag = tar.TypeFifo
		default:
			h = file(name())
			contents[i] = fmt.Sprint(i)
		}
		h.Mode = h.Mode&^0o7 | int64(rnd.IntN(8))
		h.ModTime = time.Unix(int64(1000+rnd.IntN(1000)), 0)
		h.Uid = rnd.IntN(3)
		headers = append(headers, h)
	}
	return tarOf(t, headers, contents)
}

// umoci is the reference for what layers mean: ours is the same tree or, as with umoci, an error.
func TestApplyEqualsUmoci(t *testing.T) {
	testenv.NeedRealRoot(t)
	madeUp := regexp.MustCompile(`directory 755 0:0 0,0 0\.000000000 ""`)
	attributes := regexp.MustCompile(`(" directory ).*`)
	now := regexp.MustCompile(`(" directory .*) 1[7-9]\d{8}\.\d{9} `)
	anyTime := regexp.MustCompile(`(" directory .*) \d+\.\d{9} `)
	agreed, failed := 0, 0
	for seed := range uint64(200) {
		rnd := newRand(seed)
		blobs := [][]byte{randomLayer(t, rnd, 3+int(seed%20), false), randomLayer(t, rnd, 1+int(seed%12), true)}
		dir := hostDir(t)
		var theirs error
		for _, blob := range blobs {
			if theirs == nil {
				theirs = umoci.UnpackLayer(dir, bytes.NewReader(blob), nil)
			}
		}
		var read []*Layer
		var ours error
		for _, blob := range blobs {
			l, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{})
			if err != nil {
				ours = errors.Join(ours, err)
				continue
			}
			read = append(read, l)
		}
		var tree *Tree
		if ours == nil {
			tree, ours = Apply(nil, read...)
		}
		if ours != nil || theirs != nil {
			// umoci can't link to what stood under a name earlier in the layer; for us that is still there. A whiteout behind a loop of links
			// hides nothing.
			if (ours == nil) != (theirs == nil) && (ours != nil || !strings.Contains(theirs.Error(), ": link: ") && !strings.Contains(theirs.Error(), ".wh.")) {
				t.Errorf("seed %d: our error is %v, umoci's %v", seed, ours, theirs)
			}
			failed++
			continue
		}
		agreed++
		want, got := treeText(t, scanned(t, dir))[1:], treeText(t, tree)[1:]
		for i := range min(len(want), len(got)) {
			// Directories that the layer does not hold get the time of umoci's run, or the attributes of the file that stood there.
			if made := madeUp.FindString(got[i]); made != "" {
				want[i], got[i] = attributes.ReplaceAllString(want[i], "$1"), attributes.ReplaceAllString(got[i], "$1")
			} else if time := now.FindString(want[i]); time != "" {
				want[i], got[i] = now.ReplaceAllString(want[i], "$1"), anyTime.ReplaceAllString(got[i], "$1")
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("seed %d: not what umoci unpacks (-umoci +ours):\n%s", seed, diff)
		}
	}
	if agreed < 70 {
		t.Errorf("only %d trees were compared, %d failed", agreed, failed)
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 5)) }

// Layers that umoci makes of a changed directory must give what umoci unpacks of them, whiteouts included.
func TestApplyOfLayersMadeByUmoci(t *testing.T) {
	testenv.NeedRealRoot(t)
	testenv.NeedProgram(t, "umoci")
	for seed := range uint64(3) {
		work := t.TempDir()
		image, bundle := filepath.Join(work, "layout")+":x", filepath.Join(work, "bundle")
		testenv.Run(t, "umoci", "init", "--layout", filepath.Join(work, "layout"))
		testenv.Run(t, "umoci", "new", "--image", image)
		testenv.Run(t, "umoci", "unpack", "--image", image, bundle)
		root := filepath.Join(bundle, "rootfs")
		old := randomTree(t, seed, 150)
		next := randomEdits(t, old, seed, 30)
		for _, n := range append(nodesOf(old), nodesOf(next)...) {
			n.MTime.Nsec = 0 // umoci rounds times
		}
		report, err := WriteDir(t.Context(), root, old, DirOptions{Overwrite: true})
		if err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, "umoci", "repack", "--refresh-bundle", "--image", image, bundle)
		if _, err := UpdateDir(t.Context(), root, old, next, report); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, "umoci", "repack", "--image", image, bundle)
		again := filepath.Join(work, "again")
		testenv.Run(t, "umoci", "unpack", "--image", image, again)
		want := wholeSeconds(t, scanned(t, filepath.Join(again, "rootfs")))
		var layers []*Layer
		for _, name := range umociLayers(t, filepath.Join(work, "layout")) {
			l, err := ReadLayer(t.Context(), openBlob(t, name), ReadOptions{Digest: digest.Digest("sha256:" + filepath.Base(name))})
			if err != nil {
				t.Fatal(err)
			}
			layers = append(layers, l)
		}
		if len(layers) != 2 {
			t.Fatalf("umoci made %d layers", len(layers))
		}
		if diff := cmp.Diff(want, wholeSeconds(t, mustApply(t, nil, layers...))); diff != "" {
			t.Errorf("seed %d (-unpacked by umoci +ours):\n%s", seed, diff)
		}
	}
}

// umociLayers returns the blobs of the layers of the only image of a layout, lowest first.
func umociLayers(t testing.TB, layout string) []string {
	t.Helper()
	read := func(name string, into any) {
		data, err := os.ReadFile(filepath.Join(layout, name))
		if err == nil {
			err = json.Unmarshal(data, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	blob := func(d digest.Digest) string { return filepath.Join("blobs", "sha256", d.Encoded()) }
	var index v1.Index
	var manifest v1.Manifest
	read("index.json", &index)
	read(blob(index.Manifests[0].Digest), &manifest)
	var names []string
	for _, l := range manifest.Layers {
		names = append(names, filepath.Join(layout, blob(l.Digest)))
	}
	return names
}

func openBlob(t testing.TB, name string) Blob {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return fileBlob{f, fi.Size()}
}
