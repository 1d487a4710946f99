package results

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/image"
)

// TestMachinesFindTheirFiles bundles the settings of a machine: they name other results, which have other names in the bundle.
func TestMachinesFindTheirFiles(t *testing.T) {
	const base = "Test-1.2.3.x86_64-1.2.3"
	s, err := Stage(filepath.Join(t.TempDir(), "target"))
	if err != nil {
		t.Fatal(err)
	}
	settings := "kernel = \"" + base + "-6.1.kernel\"\nramdisk = \"" + base + ".initrd\"\ndisk = [ \"target=" + base + ".ext4\" ]\n# " + base + ".xenconfig of " + base + "\n"
	artifacts := []image.Artifact{{Key: image.KeyFilesystemImage, File: base + ".ext4", UseForBundle: true, Compress: true}, {Key: image.KeyMachineSettings, File: base + ".xenconfig", UseForBundle: true}}
	for key, name := range map[string]string{"kernel": base + "-6.1.kernel", "initrd": base + ".initrd"} {
		artifacts = append(artifacts, image.Artifact{Key: key, File: name, UseForBundle: true})
	}
	for _, a := range artifacts {
		if err := os.WriteFile(filepath.Join(s.Dir, a.File), []byte(settings), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Publish(t.Context(), Part{Type: "ext4", Dir: s.Dir, Naming: naming(""), Artifacts: artifacts}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "bundle")
	if _, err := Bundle(t.Context(), BundleOptions{Target: s.target, Dir: dir, ID: "B7", Pattern: "guest-%I"}); err != nil {
		t.Fatal(err)
	}
	want := "kernel = \"guest-B7-6.1.kernel\"\nramdisk = \"guest-B7.initrd\"\ndisk = [ \"target=guest-B7.ext4\" ]\n# guest-B7.xenconfig of " + base + "\n"
	for file, want := range map[string]string{"guest-B7.xenconfig": want, "guest-B7.initrd": settings} {
		got, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}
