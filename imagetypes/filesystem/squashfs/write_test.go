package squashfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/internal/sampletree"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs/compress"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// variants are options of all kinds.
func variants() map[string]Options {
	return map[string]Options{
		"default":      {},
		"small blocks": {BlockSize: 4 << 10},
		"large blocks": {BlockSize: 1 << 20, Fragments: FragmentsAlways},
		"fragments":    {BlockSize: 8 << 10, Fragments: FragmentsAlways, KeepDuplicates: true},
		"no fragments": {BlockSize: 64 << 10, Fragments: FragmentsNone, Compression: compress.Settings{Method: "gzip", Level: 1}},
		"plain":        {PlainInodes: true, PlainIDs: true, PlainData: true, PlainFragments: true, PlainXattrs: true, NoExport: true, NoPadding: true},
		"plain ids":    {PlainIDs: true, PlainXattrs: true, BlockSize: 16 << 10},
	}
}

// TestRandomTrees writes random trees with all kinds of options; two readers find the same trees. The bytes don't depend on how many processors there are.
func TestRandomTrees(t *testing.T) {
	testenv.NeedPrograms(t, "sqfs2tar", "unsquashfs")
	for name, o := range variants() {
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				t.Parallel()
				m := sampletree.New(t, seed+uint64(len(name))*100)
				m.Random(".", 400, seed == 0)
				tree := m.Edit.Tree()
				o.Processors = 1
				f, report := write(t, tree, o)
				layerstest.Same(t, held(t, tree), read(t, f.Name()))
				testenv.Run(t, "unsquashfs", "-no-progress", "-quiet", "-no-xattrs", "-pf", os.DevNull, f.Name())
				o.Processors = 8
				if again, _ := write(t, tree, o); sum(t, again) != sum(t, f) {
					t.Error("other bytes with 8 processors than with 1")
				}
				info, err := f.Stat()
				if err != nil {
					t.Fatal(err)
				}
				if padded := (report.Size + 4095) / 4096 * 4096; !o.NoPadding && info.Size() != padded || o.NoPadding && info.Size() != report.Size {
					t.Errorf("%d bytes of a file of %d", report.Size, info.Size())
				}
			})
		}
	}
}

// TestVariety has one of everything, which unsquashfs unpacks.
func TestVariety(t *testing.T) {
	m := sampletree.New(t, 3)
	m.Variety("one")
	tree := m.Edit.Tree()
	f, report := write(t, tree, Options{Epoch: 1234567890})
	want := []string{
		"/one/attributes: system.posix_acl_access left out: squashfs holds no such attribute",
		"/one/before 1970: time of last change 1969-12-31 set to 1970-01-01: squashfs holds no other",
		"/: times are kept in whole seconds",
	}
	var notes []string
	for _, n := range report.Notes {
		notes = append(notes, n.Path+": "+n.Text)
	}
	for _, note := range want {
		if !slices.Contains(notes, note) {
			t.Errorf("no note %q in %q", note, notes)
		}
	}
	layerstest.Same(t, held(t, tree), read(t, f.Name()))
	if out := testenv.Run(t, "unsquashfs", "-stat", f.Name()); !strings.Contains(out, "2009") || !strings.Contains(out, "Compression zstd") {
		t.Errorf("unsquashfs says %s", out)
	}
	if !mayMakeDevices(t) {
		t.Skip("this user may make no devices")
	}
	layerstest.Same(t, held(t, tree), unpack(t, f.Name()))
}

func mayMakeDevices(t *testing.T) bool {
	return unix.Mknod(filepath.Join(t.TempDir(), "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) == nil
}

// TestAgainstMksquashfs has mksquashfs write the same tree: it has as many inodes, owners and sets of attributes, and the same fragments' number in
// blocks without compression.
func TestAgainstMksquashfs(t *testing.T) {
	testenv.NeedPrograms(t, "mksquashfs", "unsquashfs", "sqfs2tar")
	m := sampletree.New(t, 11)
	m.Random(".", 500, true)
	var dropped []string
	_ = m.Edit.Tree().Walk(func(name string, n *layers.Node) error {
		if n.IsDevice() || n.IsSymlink() { // of which it makes no hard links
			dropped = append(dropped, name)
		}
		return nil
	})
	for _, name := range dropped {
		if err := m.Edit.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	tree := layerstest.Changed(t, m.Edit.Tree(), func(n *layers.Node) {
		n.Xattrs, n.UID, n.GID, n.MTime = nil, 0, 0, layers.Timespec{Sec: n.MTime.Sec % MaxTime} // it takes 32 bits of the time
	})
	dir := filepath.Join(t.TempDir(), "tree")
	if _, err := layers.WriteDir(t.Context(), dir, tree, layers.DirOptions{}); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(t.TempDir(), "foreign")
	testenv.Run(t, "mksquashfs", dir, foreign, "-quiet", "-no-progress", "-comp", "zstd", "-no-xattrs")
	f, _ := write(t, tree, Options{NoXattrs: true, BlockSize: 128 << 10})
	layerstest.Same(t, read(t, foreign), read(t, f.Name()))
	lines := func(name string) (found []string) {
		for line := range strings.Lines(testenv.Run(t, "unsquashfs", "-stat", name)) {
			for _, word := range []string{"Number of inodes", "Number of ids", "xattr", "exportable", "Block size", "Duplicates", "fragments option"} {
				if strings.Contains(line, word) {
					found = append(found, line)
				}
			}
		}
		return found
	}
	if want, got := lines(foreign), lines(f.Name()); !slices.Equal(want, got) {
		t.Errorf("%q instead of %q", got, want)
	}
}

// random returns bytes that can't be compressed.
func random(seed uint64, length int) []byte {
	p := make([]byte, length)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = src.Read(p) // never fails
	return p
}

// TestDuplicates stores equal files once, whatever their sizes, and what follows a large one is where it belongs.
func TestDuplicates(t *testing.T) {
	const block = 4096
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	put := func(name string, data []byte) {
		t.Helper()
		if err := edit.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	for i, size := range []int{10, block, 3*block + 5, heldBlocks * block, heldBlocks*block + 7, 50*block + 100, 300 * block} {
		data := random(uint64(i), size)
		other := slices.Clone(data)
		other[size-1]++
		total += 2 * size
		put(fmt.Sprintf("%d a", i), data)
		put(fmt.Sprintf("%d b", i), other)
		put(fmt.Sprintf("%d c", i), data)
		put(fmt.Sprintf("%d d", i), other)
	}
	put("z", random(100, 900*block)) // what is written over
	put("zz", make([]byte, 20*block+1))
	put("zzz", make([]byte, 20*block+1))
	total += 900 * block
	tree := edit.Tree()
	for _, fragments := range []Fragments{FragmentsSmall, FragmentsAlways, FragmentsNone} {
		f, report := write(t, tree, Options{BlockSize: block, Fragments: fragments})
		if least, most := int64(total), int64(total+total/100+4*block); report.Size < least || report.Size > most {
			t.Errorf("fragments %d: %d bytes, not %d to %d", fragments, report.Size, least, most)
		}
		layerstest.Same(t, tree, read(t, f.Name()))
	}
	if _, report := write(t, tree, Options{BlockSize: block, KeepDuplicates: true}); report.Size < 2*int64(total-900*block) {
		t.Errorf("%d bytes with duplicates", report.Size)
	}
	// The file ends behind the file system even if what was dropped reached further.
	if err := edit.Remove("z"); err != nil {
		t.Fatal(err)
	}
	f, report := write(t, edit.Tree(), Options{BlockSize: block})
	if info, err := f.Stat(); err != nil || info.Size() != (report.Size+4095)/4096*4096 {
		t.Errorf("%d bytes in a file of %d (%v)", report.Size, info.Size(), err)
	}
	layerstest.Same(t, edit.Tree(), read(t, f.Name()))
}

// TestHoles has files of holes alone, with holes of more than 4 GiB, and ones that end with a hole.
func TestHoles(t *testing.T) {
	testenv.NeedProgram(t, "unsquashfs")
	const large = 5 << 30
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	piece := []byte("a piece of data")
	at := func(size int64, offsets ...int64) *layers.Node {
		n := &layers.Node{Mode: layers.TypeRegular | 0o644, Size: size, MTime: layers.Timespec{Sec: 5}, Data: []layers.Extent{}}
		var data []byte
		for _, o := range offsets {
			n.Data = append(n.Data, layers.Extent{Offset: o, Length: int64(len(piece))})
			data = append(data, piece...)
		}
		n.Content = layers.Bytes(data)
		return n
	}
	for name, n := range map[string]*layers.Node{
		"nothing": at(large), "end": at(large, large-15), "middle": at(large+1, 0, 3<<30), "small": at(5000), "small end": at(100000, 99985), "ends with a hole": at(1<<20+17, 5),
		"other": at(large, 0),
	} {
		if err := edit.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	tree := edit.Tree()
	f, report := write(t, tree, Options{BlockSize: 1 << 20, Fragments: FragmentsAlways})
	if report.Size > 1<<20 {
		t.Errorf("%d bytes", report.Size)
	}
	got := unpack(t, f.Name())
	err := tree.Walk(func(name string, n *layers.Node) error {
		found, err := got.Lookup(name)
		if err != nil || !n.IsRegular() {
			return err
		}
		for _, e := range n.Data { // not the holes, which are large
			start := e.Offset
			if found.Data != nil {
				start = 0
			}
			for _, g := range found.Data {
				if e.Offset < g.Offset+g.Length {
					start += e.Offset - g.Offset
					break
				}
				start += g.Length
			}
			r, err := found.Content.Open()
			if err != nil {
				return err
			}
			defer r.Close()
			var data [20]byte
			if _, err := io.CopyN(io.Discard, r, start); err != nil {
				return err
			}
			if _, err := io.ReadFull(r, data[:e.Length]); err != nil || !bytes.Equal(data[:e.Length], piece) {
				t.Errorf("%s: %q at %d (%v)", name, data, e.Offset, err)
			}
		}
		if found.Size != n.Size {
			t.Errorf("%s has %d bytes", name, found.Size)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// One tree with holes may be written by several at once.
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if again, _ := write(t, tree, Options{BlockSize: 1 << 20, Fragments: FragmentsAlways}); sum(t, again) != sum(t, f) {
				t.Error("other bytes")
			}
		})
	}
	group.Wait()
}

// TestOwners changes owners, and refuses more than there can be.
func TestOwners(t *testing.T) {
	edit := layers.NewTree().Edit(layers.Timespec{})
	for i := range MaxIDs {
		if err := edit.Put(fmt.Sprint(i), &layers.Node{Mode: layers.TypeRegular | 0o600, UID: uint32(i), GID: uint32(i)}); err != nil {
			t.Fatal(err)
		}
	}
	f, _ := write(t, edit.Tree(), Options{})
	layerstest.Same(t, edit.Tree(), read(t, f.Name()))
	if err := edit.Put("one more", &layers.Node{Mode: layers.TypeRegular | 0o600, UID: 1 << 31}); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), f, edit.Tree(), Options{}); err == nil || !strings.Contains(err.Error(), "more than 65535 different owners") {
		t.Errorf("error is %v", err)
	}
	uid, gid := uint32(0), uint32(7)
	f, _ = write(t, edit.Tree(), Options{UID: &uid, GID: &gid})
	layerstest.Same(t, layerstest.Changed(t, edit.Tree(), func(n *layers.Node) { n.UID, n.GID = uid, gid }), read(t, f.Name()))
}

func TestNames(t *testing.T) {
	edit := layers.NewTree().Edit(layers.Timespec{})
	if err := edit.MkdirAll("dir/"+strings.Repeat("n", maxName), 0o755); err != nil {
		t.Fatal(err)
	}
	f, _ := write(t, edit.Tree(), Options{})
	if out := testenv.Run(t, "unsquashfs", "-no-progress", "-lln", f.Name()); !strings.Contains(out, "/"+strings.Repeat("n", maxName)+"\n") {
		t.Error(out)
	}
	if err := edit.MkdirAll("dir/"+strings.Repeat("n", maxName+1), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), f, edit.Tree(), Options{}); err == nil || !strings.Contains(err.Error(), "has 257 bytes, and squashfs can hold 256") {
		t.Errorf("error is %v", err)
	}
}

// TestXattrsAreShared stores a set of attributes once, and none if asked to.
func TestXattrsAreShared(t *testing.T) {
	edit := layers.NewTree().Edit(layers.Timespec{})
	for i := range 3000 {
		n := layers.NewFile(nil, 0o644, layers.Timespec{})
		n.Xattrs = []layers.Xattr{{Name: "security.selinux", Value: fmt.Sprintf("label %d%s\x00", i%600, strings.Repeat("x", i%600))}, {Name: "user.empty", Value: ""}}
		if err := edit.Put(fmt.Sprint(i), n); err != nil {
			t.Fatal(err)
		}
	}
	f, _ := write(t, edit.Tree(), Options{})
	layerstest.Same(t, edit.Tree(), read(t, f.Name()))
	if out := testenv.Run(t, "unsquashfs", "-stat", f.Name()); !strings.Contains(out, "Number of xattr ids 600\n") {
		t.Error(out)
	}
	f, _ = write(t, edit.Tree(), Options{NoXattrs: true})
	layerstest.Same(t, layerstest.Changed(t, edit.Tree(), func(n *layers.Node) { n.Xattrs = nil }), read(t, f.Name()))
}

// TestObserve shows every file without holes once and whole.
func TestObserve(t *testing.T) {
	m := sampletree.New(t, 5)
	m.Random(".", 200, true)
	tree := m.Edit.Tree()
	seen := map[*layers.Node]*bytes.Buffer{}
	var progress int64
	write(t, tree, Options{
		Progress: func(n int64) { progress += n },
		Observe: func(n *layers.Node) io.Writer {
			if seen[n] != nil {
				t.Error("a file is read twice")
			}
			seen[n] = &bytes.Buffer{}
			return seen[n]
		},
	})
	if want := tree.Stats().Data; progress != want {
		t.Errorf("%d bytes of %d", progress, want)
	}
	_ = tree.Walk(func(name string, n *layers.Node) error {
		if !n.IsRegular() || n.Data != nil || n.Size == 0 {
			return nil
		}
		if want := []byte(n.Content.(layers.Bytes)); seen[n] == nil || !bytes.Equal(seen[n].Bytes(), want) {
			t.Errorf("%s was not shown as it is", name)
		}
		return nil
	})
}

// full is a file on a disk that is full after some bytes.
type full struct{ left int64 }

func (f *full) Truncate(int64) error { return nil }

func (f *full) WriteAt(p []byte, _ int64) (int, error) {
	if f.left -= int64(len(p)); f.left < 0 {
		return 0, unix.ENOSPC
	}
	return len(p), nil
}

// failing is content that can't be read, or that ends too early.
type failing struct{ err error }

func (f failing) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("the beginning"), f)), nil
}

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestErrors(t *testing.T) {
	m := sampletree.New(t, 1)
	m.Dir("dir")
	for i := range 200 {
		m.Put(fmt.Sprintf("dir/%d", i), m.File(100000))
	}
	tree := m.Edit.Tree()
	for _, size := range []int64{0, 100, 1 << 20, 15 << 20} {
		if _, err := Write(t.Context(), &full{size}, tree, Options{}); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("a disk that is full after %d bytes: %v", size, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("nobody wants it")
	_, err := Write(ctx, &full{1 << 40}, tree, Options{Progress: func(int64) { cancel(gone) }})
	if !errors.Is(err, gone) {
		t.Errorf("cancelled: %v", err)
	}
	broken := errors.New("the disk is broken")
	for read, want := range map[error]error{broken: broken, io.EOF: io.ErrUnexpectedEOF} {
		m.Put("dir/100", &layers.Node{Mode: layers.TypeRegular, Size: 1 << 20, Content: failing{read}})
		_, err := Write(t.Context(), &full{1 << 40}, m.Edit.Tree(), Options{})
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "/dir/100: ") {
			t.Errorf("%v instead of %v", err, want)
		}
	}
	if _, err := Write(t.Context(), &full{1 << 40}, tree, Options{BlockSize: 5000}); err == nil || !strings.Contains(err.Error(), "5000") {
		t.Errorf("blocks of 5000 bytes: %v", err)
	}
	m.Put("dir/100", &layers.Node{Mode: 0o150000})
	if _, err := Write(t.Context(), &full{1 << 40}, m.Edit.Tree(), Options{}); err == nil || !strings.Contains(err.Error(), "unknown type") {
		t.Errorf("a door: %v", err)
	}
}

// TestChangedWhileRead notices a file that changes its size between being listed and being read, and meanwhile.
func TestChangedWhileRead(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, random(1, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, _, err := layers.ScanDir(t.Context(), dir, layers.ScanOptions{KeepVolatile: true})
	if err != nil {
		t.Fatal(err)
	}
	shrink := func(int64) { _ = os.Truncate(name, 2<<20) }
	_, err = Write(t.Context(), &full{1 << 40}, tree, Options{Progress: shrink})
	if changed := (*layers.ChangedError)(nil); !errors.As(err, &changed) {
		t.Errorf("error is %v", err)
	}
}

// TestManyEntries has a directory with more entries than fit behind one header, into one block of the directory table or into 64 KiB, and one file
// among them that is found by its name.
func TestManyEntries(t *testing.T) {
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	linked := layers.NewFile([]byte("linked"), 0o644, layers.Timespec{Sec: 2})
	if err := edit.MkdirAll("many/links", 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 70000 {
		n := &layers.Node{Mode: layers.TypeRegular | 0o644, UID: uint32(i % 300)}
		if i%1000 == 0 {
			n = linked
		}
		if err := edit.Put(fmt.Sprintf("many/entry %d", i), n); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Put("many/links/another", linked); err != nil {
		t.Fatal(err)
	}
	f, _ := write(t, edit.Tree(), Options{})
	layerstest.Same(t, edit.Tree(), read(t, f.Name()))
	out, err := exec.Command(testenv.NeedProgram(t, "unsquashfs"), "-no-progress", "-lln", f.Name(), "many/entry 54321").Output()
	if err != nil || !strings.Contains(string(out), "0/0") && !strings.Contains(string(out), "21/0") {
		t.Errorf("%s (%v)", out, err)
	}
}
