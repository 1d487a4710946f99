package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTargetInsideTheTree is refused, however it is named; beside it, and above it as KIWI has it, is where results go.
func TestTargetInsideTheTree(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "out/build/image-root")
	if err := os.MkdirAll(filepath.Join(root, "srv"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "srv"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for target, refused := range map[string]bool{
		"out/build/image-root": true, "out/build/image-root/srv": true, "out/build/image-root/new/dir": true, "link": true, "link/new": true, "out/build/../build/image-root/srv": true,
		"out": false, "out/build": false, "out/build/image-root-2": false, "new": false,
	} {
		err := checkOutside(root, filepath.Join(dir, target))
		if got := err != nil && strings.Contains(err.Error(), "lies inside the root tree"); got != refused {
			t.Errorf("%s: error is %v", target, err)
		}
	}
	if err := checkOutside(filepath.Join(dir, "nothing"), dir); err != nil {
		t.Errorf("without a tree: %v", err)
	}
}
