package layers

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

func TestReadLayerReadsWhatPackWrites(t *testing.T) {
	for name, tree := range map[string]*Tree{"awkward": awkward(t), "random": randomTree(t, 30, 500)} {
		for _, c := range everyCompression {
			p, blob := packed(t, layerOf(t, tree), PackOptions{Compression: c})
			l, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Digest: p.Digest, DiffID: p.DiffID})
			if err != nil {
				t.Fatalf("%s, %s: %v", name, c, err)
			}
			sameTree(t, name+" "+c.String(), tree, mustApply(t, nil, l))
			if l.TarSize != p.TarSize || l.Size != p.Size || l.Digest != p.Digest || l.DiffID != p.DiffID {
				t.Errorf("%s, %s: sizes and digests differ: %+v %+v", name, c, l, p)
			}
		}
	}
}

// plainTree has nothing that the oldest tar formats can't hold.
func plainTree(t testing.TB) *Tree {
	e := NewTree().Edit(Timespec{Sec: 1_500_000_000})
	for _, err := range []error{
		e.WriteFile("dir/file", []byte("content"), 0o640), e.Symlink("../x", "dir/link"), e.Link("dir/file", "hard"), e.MkdirAll("empty", 0o700),
		e.WriteFile(strings.Repeat("long/", 16)+"name", []byte("x"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return e.Tree()
}

func TestReadLayerReadsTarsOfForeignTools(t *testing.T) {
	testenv.NeedRealRoot(t)
	gnu := []string{"tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-cf", "-"}
	for _, c := range []struct {
		name    string
		tree    *Tree
		command []string
		seconds bool // the format has no fractions of seconds
	}{
		{"v7", plainTree(t), []string{"tar", "--format=v7", "-cf", "-"}, true},
		{"ustar", plainTree(t), []string{"tar", "--format=ustar", "-cf", "-"}, true},
		{"oldgnu", plainTree(t), []string{"tar", "--format=oldgnu", "-cf", "-"}, true},
		{"gnu sparse", withoutXattrs(t, awkward(t)), []string{"tar", "--format=gnu", "--sparse", "--numeric-owner", "-cf", "-"}, true},
		{"pax", awkward(t), append(gnu, "--format=posix"), false},
		{"pax sparse 0.0", awkward(t), append(gnu, "--format=posix", "--sparse", "--sparse-version=0.0"), false},
		{"pax sparse 0.1", awkward(t), append(gnu, "--format=posix", "--sparse", "--sparse-version=0.1"), false},
		{"pax sparse 1.0", awkward(t), append(gnu, "--format=posix", "--sparse", "--sparse-version=1.0"), false},
		{"random pax sparse 1.0", randomTree(t, 31, 300), append(gnu, "--format=posix", "--sparse"), false},
		{"bsdtar pax", without(t, awkward(t), "times/0"), []string{"bsdtar", "--format=pax", "--numeric-owner", "--xattrs", "-cf", "-"}, false},
		{"bsdtar gnutar", withoutXattrs(t, plainTree(t)), []string{"bsdtar", "--format=gnutar", "--numeric-owner", "-cf", "-"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			testenv.NeedProgram(t, c.command[0])
			dir, _ := written(t, c.tree, DirOptions{})
			cmd := exec.Command(c.command[0], append(c.command[1:], "-C", dir, ".")...)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			tree := mustApply(t, nil, mustRead(t, out))
			text := treeText
			if c.seconds {
				text = wholeSeconds
			}
			if diff := cmp.Diff(withoutACLs(text(t, c.tree)), withoutACLs(text(t, tree))); diff != "" {
				t.Errorf("(-written +read):\n%s", diff)
			}
			if strings.Contains(c.name, "sparse") {
				n, err := tree.Lookup("holes/middle")
				if c.name != "random pax sparse 1.0" && (err != nil || n.DataSize() > 1<<20) {
					t.Errorf("the holes of a sparse file are lost: %v, %v", n, err)
				}
			}
		})
	}
}

// withoutACLs drops ACLs, which some programs write in forms of their own.
func withoutACLs(lines []string) []string {
	for i := range lines {
		if before, after, ok := strings.Cut(lines[i], " system.posix_acl_access="); ok {
			_, rest, _ := strings.Cut(after, `" `)
			lines[i] = before + " " + rest
		}
	}
	return lines
}

// without removes entries that a program writes wrong.
func without(t testing.TB, tree *Tree, names ...string) *Tree {
	t.Helper()
	e := tree.Edit(Timespec{})
	for _, name := range names {
		if err := e.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	return e.Tree()
}

func withoutXattrs(t testing.TB, tree *Tree) *Tree {
	t.Helper()
	e := tree.Edit(Timespec{})
	for name, n := range namedNodes(tree) {
		if n.Xattrs != nil && name != "." {
			if err := e.Change(name, func(n *Node) { n.Xattrs = nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	return e.Tree()
}

func namedNodes(tree *Tree) map[string]*Node {
	nodes := map[string]*Node{}
	_ = tree.Walk(func(name string, n *Node) error {
		nodes[name] = n
		return nil
	})
	return nodes
}

func TestReadLayerReadsWhatGoWrites(t *testing.T) {
	headers := []*tar.Header{
		{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 200), Mode: 0o4755, Uid: 1 << 31, Gid: 4_294_967_294, ModTime: time.Unix(-5, 0), Format: tar.FormatGNU},
		{Typeflag: tar.TypeSymlink, Name: "link", Linkname: strings.Repeat("t", 4000), ModTime: time.Unix(1, 0), Format: tar.FormatGNU},
		{Typeflag: tar.TypeReg, Name: "pax", Uid: 4_294_967_294, ModTime: time.Unix(-1, 250_000_000), Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b\x00c", "LIBARCHIVE.xattr.user.b%20c": "eHl6", "LIBARCHIVE.xattr.user.a": "bm90"}},
		{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"uid": "77"}},
		{Typeflag: tar.TypeReg, Name: "after", Mode: 0o644},
	}
	tree := mustApply(t, nil, mustRead(t, tarOf(t, headers, map[int]string{0: "zero", 2: "two"})))
	got := treeText(t, tree)[1:]
	want := []string{
		`"after" file 644 0:0 0,0 0.000000000 "" 0 e3b0c44298fc`,
		`"link" symbolic link 777 0:0 0,0 1.000000000 "` + strings.Repeat("t", 4000) + `"`,
		`"` + strings.Repeat("n", 200) + `" file 4755 2147483648:4294967294 0,0 -5.000000000 "" 4 f9194e73f9e9`,
		`"pax" file 0 4294967294:0 0,0 -1.250000000 "" user.a="b\x00c" user.b c="xyz" 3 3fc4ccfe7458`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadLayerFindsWrongDigests(t *testing.T) {
	for form, blob := range blobForms(t, randomTree(t, 32, 100)) {
		other := digest.FromString("something else")
		var wrong *DigestError
		if _, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Digest: other}); !errors.As(err, &wrong) || wrong.What != "blob" || wrong.Got != digest.FromBytes(blob) {
			t.Errorf("%s: another blob: %v", form, err)
		}
		if _, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Digest: digest.FromBytes(blob), DiffID: other}); !errors.As(err, &wrong) || wrong.What != "tar" {
			t.Errorf("%s: another tar: %v", form, err)
		}
		if _, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Digest: digest.FromBytes(blob)}); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		if _, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Digest: "md5:1234"}); err == nil {
			t.Errorf("%s: a digest of a weak kind was taken", form)
		}
	}
}

// A blob that was cut anywhere, or in which one byte is another, is an error or at least not a crash, and never silently less.
func TestReadLayerOfDamagedBlobs(t *testing.T) {
	tree := plainTree(t)
	for form, blob := range blobForms(t, tree) {
		good, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for cut := 0; cut < len(blob); cut += 1 + len(blob)/150 {
			l, err := ReadLayer(t.Context(), memoryBlob(blob[:cut]), ReadOptions{DiffID: good.DiffID})
			if err == nil {
				t.Errorf("%s: %d of %d bytes are taken as a layer of %d entries", form, cut, len(blob), len(l.Entries))
			}
			changed := bytes.Clone(blob)
			changed[cut] ^= 0x11
			if _, err := ReadLayer(t.Context(), memoryBlob(changed), ReadOptions{Digest: digest.FromBytes(blob), DiffID: good.DiffID}); err == nil {
				t.Errorf("%s: a blob with another byte %d is taken for the right one", form, cut)
			}
		}
	}
	if _, err := ReadLayer(t.Context(), memoryBlob(nil), ReadOptions{}); err != nil {
		t.Errorf("an empty tar is a layer without entries, but gives %v", err)
	}
	for _, junk := range []string{"hello", strings.Repeat("x", 2000), "\x1f\x8b", "\x28\xb5\x2f\xfd", strings.Repeat("\x00", 511)} {
		var format *FormatError
		if _, err := ReadLayer(t.Context(), memoryBlob(junk), ReadOptions{}); !errors.As(err, &format) {
			t.Errorf("%q gives %v", junk, err)
		}
	}
}

func TestReadLayerBoundsSizes(t *testing.T) {
	bomb := func(name string, size int64, opts ReadOptions, text string) {
		t.Helper()
		var raw bytes.Buffer
		z, err := zstd.NewWriter(&raw)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(z)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: size}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, endlessZeros{}, size); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Close(), z.Close()); err != nil {
			t.Fatal(err)
		}
		var hostile *HostileError
		if _, err := ReadLayer(t.Context(), memoryBlob(raw.Bytes()), opts); !errors.As(err, &hostile) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bomb("a size over the limit", 200<<20, ReadOptions{MaxSize: 100 << 20}, "it has 209715200 bytes")
	if !testing.Short() {
		bomb("a ratio over the limit", ratioFloor+1<<20, ReadOptions{}, "ratio")
	}
	var headers []*tar.Header
	for range 50 {
		headers = append(headers, file("x"))
	}
	var hostile *HostileError
	if _, err := ReadLayer(t.Context(), memoryBlob(tarOf(t, headers, nil)), ReadOptions{MaxEntries: 49}); !errors.As(err, &hostile) {
		t.Errorf("too many entries: %v", err)
	}
	long := file("x")
	long.PAXRecords = map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 60_000)}
	if _, err := ReadLayer(t.Context(), memoryBlob(tarOf(t, []*tar.Header{long, long, long}, nil)), ReadOptions{MaxMetadata: 100_000}); !errors.As(err, &hostile) {
		t.Errorf("too much metadata: %v", err)
	}
}

func TestReadLayerRefusesHostileEntries(t *testing.T) {
	pax := func(h *tar.Header, records map[string]string) *tar.Header {
		h.PAXRecords, h.Format = records, tar.FormatPAX
		return h
	}
	device := func(major, minor int64) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeChar, Name: "dev", Devmajor: major, Devminor: minor}
	}
	for name, c := range map[string]struct {
		header *tar.Header
		text   string
	}{
		"above the root":              {file("../x"), "leads out"},
		"above the root later":        {file("a/../../x"), "leads out"},
		"absolute above the root":     {file("/../x"), "leads out"},
		"only above the root":         {folder(".."), "leads out"},
		"hard link above the root":    {hardlink("x", "../../etc/passwd"), "outside of the root tree"},
		"hard link to itself":         {hardlink("x", "./x"), "itself"},
		"hard link in place of root":  {hardlink("./", "x"), "root directory"},
		"root as a file":              {file("./."), "root directory"},
		"root as a link":              {symlink("/", "/etc"), "root directory"},
		"whiteout of the root":        {file(".wh.."), "hides no name"},
		"whiteout of above":           {file("a/.wh..."), "hides no name"},
		"whiteout of nothing":         {file("a/.wh."), "hides no name"},
		"below a whiteout":            {file("a/.wh.b/c"), "below a whiteout"},
		"whiteout above the root":     {file("../.wh.x"), "leads out"},
		"a long part":                 {file(strings.Repeat("x", 256)), "more than Linux allows"},
		"a long name":                 {file(strings.Repeat("x/", 2100)), "more than Linux allows"},
		"a long target":               {symlink("l", strings.Repeat("x", 4096)), "Linux does not allow"},
		"an owner out of range":       {pax(file("x"), map[string]string{"uid": "4294967295"}), "not a user"},
		"a negative owner":            {pax(file("x"), map[string]string{"gid": "-1"}), "not a user"},
		"a device out of range":       {device(4096, 0), "device number"},
		"another device out of range": {device(1, 1<<20), "device number"},
		"an attribute without name":   {pax(file("x"), map[string]string{"SCHILY.xattr.": "v"}), "extended attribute"},
		"an attribute too long":       {pax(file("x"), map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 65537)}), "extended attribute"},
		"an attribute's long name":    {pax(file("x"), map[string]string{"SCHILY.xattr.user." + strings.Repeat("n", 300): "v"}), "extended attribute"},
		"a wrong encoding":            {pax(file("x"), map[string]string{"LIBARCHIVE.xattr.user.x": "%%%"}), "base64"},
		"a hole that has data":        {pax(file("x"), map[string]string{paxDataMap: "0,1"}), "hole"},
		"a map that leads out":        {pax(file("x"), map[string]string{paxDataMap: "0,100000"}), "outside"},
		"a map that overlaps":         {pax(file("x"), map[string]string{paxDataMap: "0,2,1,2"}), "overlap"},
		"a map that overflows":        {pax(file("x"), map[string]string{paxDataMap: "9223372036854775807,9223372036854775807"}), "overlap"},
		"a map of half a pair":        {pax(file("x"), map[string]string{paxDataMap: "1"}), "wrong length"},
		"a map of words":              {pax(file("x"), map[string]string{paxDataMap: "a,b"}), "not a number"},
		"an unknown type":             {&tar.Header{Typeflag: 'Z', Name: "x"}, "unknown type"},
	} {
		t.Run(name, func(t *testing.T) {
			blob := rawTar(t, c.header, "data data")
			_, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Digest: digest.FromBytes(blob)})
			var hostile *HostileError
			var format *FormatError
			if !errors.As(err, &hostile) && !errors.As(err, &format) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("the error is %v", err)
			}
			if !strings.Contains(err.Error(), string(digest.FromBytes(blob))) {
				t.Errorf("it does not name the layer: %v", err)
			}
		})
	}
}

func TestReadLayerOfPlainTars(t *testing.T) {
	for _, name := range []string{"srv/.wh.gone", "srv/.wh..wh..opq", ".wh..wh.plnk", "a/.wh.b/c", "a/.wh."} {
		layer, err := ReadLayer(t.Context(), memoryBlob(rawTar(t, file(name), "data")), ReadOptions{Plain: true})
		if err != nil {
			t.Fatal(err)
		}
		tree, err := Apply(NewTree(), layer)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := tree.Lookup(name); err != nil || n.Size != 4 {
			t.Errorf("%s is %+v, %v", name, n, err)
		}
	}
}

// rawTar writes a header that archive/tar may refuse, with data if it is a file.
func rawTar(t testing.TB, h *tar.Header, data string) []byte {
	t.Helper()
	var out bytes.Buffer
	e := tarEntry{name: h.Name, flag: h.Typeflag, link: h.Linkname, mode: uint32(h.Mode), major: uint32(h.Devmajor), minor: uint32(h.Devminor)}
	for key, value := range h.PAXRecords {
		e.records = append(e.records, key, value)
	}
	if h.Typeflag == tar.TypeReg {
		e.size = int64(len(data))
	}
	var headers tarHeaders
	if _, err := headers.write(&out, &e); err != nil {
		t.Fatal(err)
	}
	if e.size > 0 {
		out.WriteString(data)
		out.Write(make([]byte, padding(e.size)))
	}
	out.Write(make([]byte, 2*tarBlock))
	return out.Bytes()
}

// A size in the header that is larger than what follows must not be believed.
func TestReadLayerOfLyingSizes(t *testing.T) {
	for _, size := range []int64{1 << 20, 1 << 34, 1 << 39, 1 << 50, 1<<63 - 1} {
		var out bytes.Buffer
		var headers tarHeaders
		if _, err := headers.write(&out, &tarEntry{name: "x", flag: tarRegular, size: size}); err != nil {
			t.Fatal(err)
		}
		out.Write(make([]byte, 3000))
		_, err := ReadLayer(t.Context(), memoryBlob(out.Bytes()), ReadOptions{})
		var hostile *HostileError
		var format *FormatError
		if !errors.As(err, &hostile) && !errors.As(err, &format) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// Sparse files that are larger than any disk take no memory and no time.
func TestReadLayerOfHugeSparseFile(t *testing.T) {
	h := file("huge")
	records := map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1000000000000", "GNU.sparse.name": "huge"}
	h.PAXRecords = records
	data := "1\n999999999990\n10\n"
	data += strings.Repeat("\x00", tarBlock-len(data)) + "0123456789"
	l := mustRead(t, rawTar(t, h, data))
	n := l.Entries[0].Node
	if n.Size != 1_000_000_000_000 || n.DataSize() != 10 || l.Entries[0].Name != "huge" {
		t.Errorf("%s has %d bytes, %d of data", l.Entries[0].Name, n.Size, n.DataSize())
	}
	records["GNU.sparse.realsize"] = "9000000000000000000"
	var hostile *HostileError
	if _, err := ReadLayer(t.Context(), memoryBlob(rawTar(t, h, data)), ReadOptions{}); !errors.As(err, &hostile) {
		t.Errorf("a file of 9 exabytes gives %v", err)
	}
}

// Whatever a layer holds, writing it out must stay inside of its directory.
func TestHostileLayersStayInside(t *testing.T) {
	outside := t.TempDir()
	for name, headers := range map[string][]*tar.Header{
		"write through a link":     {symlink("out", outside), file("out/pwned")},
		"write through dots":       {symlink("out", strings.Repeat("../", 30)+outside[1:]), file("out/pwned")},
		"a directory over a link":  {symlink("out", outside), folder("out"), file("out/pwned")},
		"a link made of two":       {symlink("a", outside), symlink("b", "a/deeper"), file("b/pwned")},
		"a hard link to a link":    {symlink("a", outside+"/target"), hardlink("b", "a"), file("b")},
		"absolute":                 {file(outside + "/pwned")},
		"whiteout through a link":  {symlink("out", outside), file("out/.wh.kept")},
		"opaque through a link":    {symlink("out", outside), file("out/.wh..wh..opq")},
		"hard link through a link": {symlink("out", outside), hardlink("x", "out/kept")},
	} {
		if err := os.WriteFile(filepath.Join(outside, "kept"), []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
		tree, err := Apply(nil, mustRead(t, tarOf(t, headers, nil)))
		if err == nil {
			written(t, tree, DirOptions{})
		}
		entries, err := os.ReadDir(outside)
		if err != nil || len(entries) != 1 {
			t.Errorf("%s: outside there is now %v, %v", name, entries, err)
		}
		if kept, err := os.ReadFile(filepath.Join(outside, "kept")); err != nil || string(kept) != "kept" {
			t.Errorf("%s: what was outside is now %q, %v", name, kept, err)
		}
	}
}
