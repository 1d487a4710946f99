package ext4

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/internal/sampletree"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

const testUUID = "12345678-1234-4234-8234-123456789abc"

// format makes an empty file system at an offset of a new file.
func format(t testing.TB, offset, size int64, options ...string) *os.File {
	t.Helper()
	mke2fs := testenv.NeedProgram(t, "mke2fs")
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(offset + size); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-q", "-F", "-U", testUUID, "-E", fmt.Sprintf("hash_seed=%s,root_owner=0:0,lazy_itable_init=1,offset=%d", testUUID, offset)}, options...)
	args = append(args, name, fmt.Sprintf("%dk", size/1024))
	cmd := exec.Command(mke2fs, args...)
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME=1700000000", "MKE2FS_SKIP_CHECK_MSG=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mke2fs %v: %v\n%s", args, err, out)
	}
	return f
}

func fsck(t testing.TB, f *os.File, offset int64) {
	t.Helper()
	e2fsck := testenv.NeedProgram(t, "e2fsck")
	out, err := exec.Command(e2fsck, "-fn", fmt.Sprintf("%s?offset=%d", f.Name(), offset)).CombinedOutput()
	if err != nil {
		if len(out) > 4000 {
			out = out[:4000]
		}
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
}

func populate(t testing.TB, f *os.File, offset int64, tree *layers.Tree) *Report {
	t.Helper()
	report, err := Populate(t.Context(), f, offset, tree, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// variants are options of mke2fs that change the layout.
func variants() map[string][]string {
	return map[string][]string{
		"ext2":               {"-t", "ext2", "-b", "4096"},
		"ext3":               {"-t", "ext3", "-b", "4096"},
		"ext4":               {"-t", "ext4", "-b", "4096"},
		"ext4-no-csum":       {"-t", "ext4", "-b", "4096", "-O", "^metadata_csum"},
		"ext4-uninit_bg":     {"-t", "ext4", "-b", "4096", "-O", "^metadata_csum,uninit_bg"},
		"ext4-no-64bit":      {"-t", "ext4", "-b", "4096", "-O", "^64bit"},
		"ext4-no-journal":    {"-t", "ext4", "-b", "4096", "-O", "^has_journal"},
		"ext4-no-flex_bg":    {"-t", "ext4", "-b", "4096", "-O", "^flex_bg"},
		"ext4-no-resize":     {"-t", "ext4", "-b", "4096", "-O", "^resize_inode"},
		"ext4-no-dir_index":  {"-t", "ext4", "-b", "4096", "-O", "^dir_index"},
		"ext4-no-filetype":   {"-t", "ext4", "-b", "4096", "-O", "^filetype"},
		"ext4-csum_seed":     {"-t", "ext4", "-b", "4096", "-O", "metadata_csum_seed"},
		"ext4-orphan_file":   {"-t", "ext4", "-b", "4096", "-O", "orphan_file"},
		"ext4-sparse_super2": {"-t", "ext4", "-b", "4096", "-O", "sparse_super2"},
		"ext4-inline_data":   {"-t", "ext4", "-b", "4096", "-O", "inline_data"},
		"ext4-inode128":      {"-t", "ext4", "-b", "4096", "-I", "128"},
		"ext4-inode512":      {"-t", "ext4", "-b", "4096", "-I", "512"},
		"ext4-1k":            {"-t", "ext4", "-b", "1024"},
		"ext4-2k-groups":     {"-t", "ext4", "-b", "2048", "-g", "4096"},
		"ext3-1k":            {"-t", "ext3", "-b", "1024"},
		"ext2-1k-inode128":   {"-t", "ext2", "-b", "1024", "-I", "128"},
		"ext2-no-extras":     {"-t", "ext2", "-b", "4096", "-O", "none"},
		"ext4-small-groups":  {"-t", "ext4", "-b", "1024", "-g", "1024", "-O", "^resize_inode"},
	}
}

func checkWritten(f *os.File, at int64, data []byte) error {
	there := make([]byte, len(data))
	if _, err := f.ReadAt(there, at); err != nil || !bytes.Equal(there, data) {
		return fmt.Errorf("something else was written at %d (%v)", at, err)
	}
	return nil
}

// archived returns a tree whose contents lie in an archive.
func archived(t *testing.T, tree *layers.Tree) *layers.Tree {
	t.Helper()
	var tar bytes.Buffer
	if err := layers.WriteTar(t.Context(), &tar, tree, layers.TarOptions{}); err != nil {
		t.Fatal(err)
	}
	layer, err := layers.ReadLayer(t.Context(), bytes.NewReader(tar.Bytes()), layers.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	edit := layers.NewTree().Edit(layers.Timespec{})
	for _, e := range layer.Entries {
		if e.Node.IsRegular() {
			if err := edit.Put(e.Name, e.Node); err != nil {
				t.Fatal(err)
			}
		}
	}
	return edit.Tree()
}

// What is said to be final does not change any more.
func TestFinal(t *testing.T) {
	m := sampletree.New(t, 1)
	m.Variety("one")
	// Two archives besides: their files are written after the others, which lie between them.
	var archives [3]*layers.Editor
	for i := range archives {
		archives[i] = layers.NewTree().Edit(m.Time())
	}
	for i := range 300 {
		name, file := fmt.Sprintf("file%d", i), layers.NewFile(bytes.Repeat([]byte{byte(i)}, 1+i*i/3), 0o644, m.Time())
		if err := archives[i*i/7%3].Put(name, file); err != nil {
			t.Fatal(err)
		}
	}
	for i, archive := range archives {
		tree := archive.Tree()
		if i > 0 {
			tree = archived(t, tree)
		}
		for _, name := range tree.Root().Names() {
			m.Put(name, tree.Root().Child(name))
		}
	}
	for name, options := range map[string][]string{"ext4": {"-t", "ext4"}, "ext2": {"-t", "ext2", "-b", "1024"}, "quota": {"-t", "ext4", "-O", "quota"}} {
		t.Run(name, func(t *testing.T) {
			const offset = 1 << 20
			f := format(t, offset, 96<<20, options...)
			type prefix struct {
				length int64
				sum    [md5.Size]byte
			}
			var said []prefix
			sumOf := func(length int64) [md5.Size]byte {
				data := make([]byte, length)
				if _, err := f.ReadAt(data, 0); err != nil {
					t.Error(err)
				}
				return md5.Sum(data)
			}
			_, err := Populate(t.Context(), f, offset, m.Edit.Tree(), Options{Written: func(final, at int64, data []byte, release func()) {
				if err := checkWritten(f, at, data); err != nil {
					t.Error(err)
				}
				said = append(said, prefix{final, sumOf(final)})
				release()
			}})
			if err != nil {
				t.Fatal(err)
			}
			last := int64(0)
			for _, p := range said {
				if p.sum != sumOf(p.length) {
					t.Errorf("of the first %d bytes some have changed", p.length)
				}
				last = max(last, p.length)
			}
			if (last > 2<<20) != (name != "quota") {
				t.Errorf("%d bytes were final before the end", last)
			}
		})
	}
}

func TestPopulateVariants(t *testing.T) {
	m := sampletree.New(t, 1)
	m.Variety("one")
	m.Dir("many")
	for i := range 1200 {
		m.Put(fmt.Sprintf("many/entry number %d", i), layers.NewFile(nil, 0o644, m.Time()))
	}
	deep := "deep"
	for range 60 {
		m.Dir(deep)
		deep += "/deeper"
	}
	tree := m.Edit.Tree()
	for name, options := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const offset = 1 << 20
			f := format(t, offset, 96<<20, options...)
			report := populate(t, f, offset, tree)
			fsck(t, f, offset)
			for _, note := range report.Notes {
				if !strings.Contains(name, "inode128") {
					t.Errorf("%s: %s", note.Path, note.Text)
				}
			}
		})
	}
}
