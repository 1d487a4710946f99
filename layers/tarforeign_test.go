package layers

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/imgbuild/imgbuild/internal/testenv"
	umoci "github.com/opencontainers/umoci/oci/layer"
)

func TestWriteTarIsExtractedByGNUTar(t *testing.T) {
	testExtraction(t, awkward(t), "tar", "--xattrs", "--xattrs-include=*")
}

func TestWriteTarIsExtractedByBSDTar(t *testing.T) {
	// It keeps ACLs in records of its own, knows no escapes in names of attributes and takes fractions of negative times for positive ones.
	e := awkward(t).Edit(Timespec{})
	for _, name := range []string{"etc/acl", "etc/attr", "times/0"} {
		if err := e.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	testExtraction(t, e.Tree(), "bsdtar")
}

func testExtraction(t *testing.T, tree *Tree, tool string, args ...string) {
	testenv.NeedRealRoot(t)
	testenv.NeedProgram(t, tool)
	for _, sparse := range []bool{false, true} {
		var out bytes.Buffer
		if err := WriteTar(t.Context(), &out, tree, TarOptions{Sparse: sparse}); err != nil {
			t.Fatal(err)
		}
		dir := hostDir(t)
		cmd := exec.Command(tool, append([]string{"-xpf", "-", "-C", dir, "--numeric-owner"}, args...)...)
		cmd.Stdin = &out
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", tool, err, text)
		}
		// Without the root directory, whose time bsdtar does not set.
		if diff := cmp.Diff(treeText(t, tree)[1:], treeText(t, scanned(t, dir))[1:]); diff != "" {
			t.Errorf("sparse %v: %s extracts something else (-tree +extracted):\n%s", sparse, tool, diff)
		}
	}
}

// hostDir is a directory on a file system that holds all extended attributes.
func hostDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func scanned(t testing.TB, dir string) *Tree {
	t.Helper()
	tree, notes, err := ScanDir(t.Context(), dir, ScanOptions{KeepVolatile: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(notes) > 0 {
		t.Errorf("scanning %s: %v", dir, notes)
	}
	return tree
}

// umoci's unpacker is the reference for what a layer means. It keeps whole seconds only.
func TestPackIsUnpackedByUmoci(t *testing.T) {
	testenv.NeedRealRoot(t)
	e := awkward(t).Edit(Timespec{})
	for _, name := range []string{"etc/attr"} { // it knows no escapes in names of attributes
		if err := e.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	tree := e.Tree()
	_, blob := packed(t, layerOf(t, tree), PackOptions{})
	dir := hostDir(t)
	if err := umoci.UnpackLayer(dir, bytes.NewReader(blob), nil); err != nil {
		t.Fatal(err)
	}
	fraction := regexp.MustCompile(`\.\d{9} `)
	var texts [2][]string
	for i, tr := range []*Tree{tree, scanned(t, dir)} {
		for _, line := range treeText(t, tr) {
			texts[i] = append(texts[i], fraction.ReplaceAllString(line, " "))
		}
	}
	if diff := cmp.Diff(texts[0], texts[1]); diff != "" {
		t.Errorf("umoci unpacks something else (-tree +unpacked):\n%s", diff)
	}
}
