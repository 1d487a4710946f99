package layers

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// newStage makes a stage for a directory that does not exist yet.
func newStage(t testing.TB) (*Stage, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	stage, err := NewStage(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stage.Close() })
	return stage, dir
}

// stagedTree reads a blob with its contents into a stage.
func stagedTree(t testing.TB, blob []byte, stage *Stage) *Tree {
	t.Helper()
	l, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Stage: stage, Digest: digest.FromBytes(blob)})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Apply(nil, l)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// namesIn lists a directory.
func namesIn(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestStagedTreesAreWrittenAsTheyAre(t *testing.T) {
	testenv.NeedRealRoot(t)
	for name, tree := range map[string]*Tree{"awkward": awkward(t), "random": randomTree(t, 31, 120)} {
		for form, blob := range blobForms(t, tree) {
			stage, dir := newStage(t)
			staged := stagedTree(t, blob, stage)
			sameTree(t, name+", "+form+", read from the stage", tree, staged)
			var progress int64
			report, err := WriteDir(t.Context(), dir, staged, DirOptions{Stage: stage, Progress: func(n int64) {
				progress += n
				if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the directory is there before it is complete: %v", err)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Unheld) > 0 || progress != tree.Stats().Data {
				t.Errorf("%s, %s: progress %d of %d, lacking %v", name, form, progress, tree.Stats().Data, report.Unheld)
			}
			sameTree(t, name+", "+form, tree, scanned(t, dir))
			sameTree(t, name+", "+form+", read from the blob", tree, staged)
			if err := stage.Close(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]string{"tree"}, namesIn(t, filepath.Dir(dir))); diff != "" {
				t.Error(diff)
			}
		}
	}
}

// What became of a layer's files since they were staged counts: other metadata, several files of one content, files that are gone.
func TestStagedTreesThatWereChanged(t *testing.T) {
	testenv.NeedRealRoot(t)
	blob := blobForms(t, randomTree(t, 32, 150))["one gzip stream"]
	stage, dir := newStage(t)
	tree := randomEdits(t, stagedTree(t, blob, stage), 33, 100)
	tree = Clamp(tree, Timespec{Sec: 1_000_000})
	e := tree.Edit(Timespec{Sec: 1})
	count := 0
	err := tree.Walk(func(name string, n *Node) error {
		if !n.IsRegular() || n.DataSize() == 0 {
			return nil
		}
		twin := *n
		twin.Mode, twin.UID = TypeRegular|0o640, 77
		count++
		return e.Put(name+".twin", &twin)
	})
	if err != nil || count == 0 {
		t.Fatal(count, err)
	}
	want := e.Tree()
	if _, err := WriteDir(t.Context(), dir, want, DirOptions{}); err != nil {
		t.Fatal(err)
	}
	sameTree(t, "changed", want, scanned(t, dir))
}

func TestStageOnAnotherFileSystem(t *testing.T) {
	testenv.NeedRealRoot(t)
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("not possible here: mounting a tmpfs: %v", err)
	}
	defer unix.Unmount(mount, unix.MNT_DETACH)
	tree := randomTree(t, 34, 200)
	stage, err := NewStage(filepath.Join(mount, "tree"))
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	dir, _ := written(t, stagedTree(t, blobForms(t, tree)["one gzip stream"], stage), DirOptions{})
	sameTree(t, "another file system", tree, scanned(t, dir))
}

func TestStagesOfTheDeadAreRemoved(t *testing.T) {
	first, dir := newStage(t)
	parent := filepath.Dir(dir)
	dead, other := filepath.Join(parent, ".tree.imgbuild-123"), filepath.Join(parent, ".other.imgbuild-123")
	for _, name := range []string{dead + "/0", other, filepath.Join(parent, "tree.imgbuild-5")} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	second, err := NewStage(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Base(other), filepath.Base(first.dir.Name()), filepath.Base(second.dir.Name()), "tree.imgbuild-5"}
	if strings.Compare(want[1], want[2]) > 0 {
		want[1], want[2] = want[2], want[1]
	}
	if diff := cmp.Diff(want, namesIn(t, parent)); diff != "" {
		t.Errorf("beside the directory: %s", diff)
	}
	info, err := os.Stat(first.dir.Name())
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may look into the stage: %v, %v", info, err)
	}
	if err := errors.Join(second.Close(), second.Close(), first.Close()); err != nil {
		t.Error(err)
	}
	if _, err := first.sub(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed stage is used: %v", err)
	}
	if _, err := NewStage(parent); !errors.Is(err, os.ErrExist) {
		t.Errorf("a stage for a directory that is there: %v", err)
	}
}

// Faults of a layer are the same with a stage as without.
func TestStagedLayersThatAreDamaged(t *testing.T) {
	stage, _ := newStage(t)
	read := func(blob []byte, opts ReadOptions) string {
		_, err := ReadLayer(t.Context(), memoryBlob(blob), opts)
		if err == nil {
			return ""
		}
		var format *FormatError
		var hostile *HostileError
		var wrong *DigestError
		if !errors.As(err, &format) && !errors.As(err, &hostile) && !errors.As(err, &wrong) {
			t.Errorf("an error of no type: %v", err)
		}
		return err.Error()
	}
	for form, blob := range blobForms(t, plainTree(t)) {
		diffID := mustRead(t, blob).DiffID
		for cut := 0; cut <= len(blob); cut += 1 + len(blob)/100 {
			if read(blob[:cut], ReadOptions{DiffID: diffID, Stage: stage}) == "" && cut < len(blob) {
				t.Errorf("%s: %d of %d bytes are taken for the layer", form, cut, len(blob))
			}
			changed := bytes.Clone(blob)
			changed[min(cut, len(blob)-1)] ^= 0x11
			if read(changed, ReadOptions{Digest: digest.FromBytes(blob), Stage: stage}) == "" {
				t.Errorf("%s: a blob with another byte %d is taken for the layer", form, cut)
			}
		}
	}
	// A file that is too well compressed is refused before it takes any room.
	huge := &tar.Header{Typeflag: tar.TypeReg, Name: "huge", Size: 100 << 30}
	var raw bytes.Buffer
	if err := tar.NewWriter(&raw).WriteHeader(huge); err != nil {
		t.Fatal(err)
	}
	if text := read(gzipped(t, raw.Bytes()), ReadOptions{Stage: stage}); !strings.Contains(text, "ratio") {
		t.Errorf("a file of 100 GiB in %d bytes: %s", raw.Len(), text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ReadLayer(ctx, memoryBlob(blobForms(t, plainTree(t))["one gzip stream"]), ReadOptions{Stage: stage}); !errors.Is(err, context.Canceled) {
		t.Errorf("a reading that was cancelled: %v", err)
	}
}

func TestStageOnAFullDisk(t *testing.T) {
	testenv.NeedRealRoot(t)
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("not possible here: mounting a tmpfs: %v", err)
	}
	defer unix.Unmount(mount, unix.MNT_DETACH)
	stage, err := NewStage(filepath.Join(mount, "tree"))
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	blob := blobForms(t, randomTree(t, 35, 600))["one gzip stream"]
	if _, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Stage: stage}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk gave %v", err)
	}
}

// Contents that were staged are read by whoever wants them, also when they have been moved away or removed.
func TestStagedContents(t *testing.T) {
	tree := randomTree(t, 36, 100)
	stage, _ := newStage(t)
	staged := stagedTree(t, blobForms(t, tree)["one gzip stream"], stage)
	for _, closed := range []bool{false, true} {
		if closed {
			if err := stage.Close(); err != nil {
				t.Fatal(err)
			}
		}
		count := 0
		err := EachContent(t.Context(), nodesOf(staged), func(n *Node, data io.Reader) error {
			got, err := io.ReadAll(data)
			if int64(len(got)) == n.DataSize() {
				count++
			}
			return err
		})
		if err != nil || count != tree.Stats().Files {
			t.Errorf("stage closed %v: %d of %d files: %v", closed, count, tree.Stats().Files, err)
		}
	}
}

// A file that says where its holes are must have zeros there, staged or not.
func TestStagedHolesAreZeros(t *testing.T) {
	stage, _ := newStage(t)
	for value, honest := range map[string]bool{"4,2,6,1,8,1": true, "4,2,8,1": true, "4,2,6,1": false, "5,2,8,1": false, "4,1,8,1": false} {
		header := file("x")
		header.PAXRecords, header.Format = map[string]string{paxDataMap: value}, tar.FormatPAX
		blob := rawTar(t, header, "\x00\x00\x00\x00ab\x00\x00c\x00")
		for _, opts := range []ReadOptions{{}, {Stage: stage}} {
			var hostile *HostileError
			l, err := ReadLayer(t.Context(), memoryBlob(blob), opts)
			if honest && err != nil || !honest && !errors.As(err, &hostile) {
				t.Errorf("%s, staged %v: %v", value, opts.Stage != nil, err)
				continue
			}
			if honest {
				n := l.Entries[0].Node
				data, err := n.Content.Open()
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(data)
				if err = errors.Join(err, data.Close()); err != nil || !strings.HasPrefix(strings.ReplaceAll(string(got), "\x00", ""), "abc") {
					t.Errorf("%s, staged %v: %q, %v", value, opts.Stage != nil, got, err)
				}
			}
		}
	}
}
