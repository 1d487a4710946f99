package description

import (
	"path/filepath"
	"testing"
)

// resolveDir loads and resolves a description that must be good.
func resolveDir(t *testing.T, dir string, sel Selection) *Image {
	t.Helper()
	doc, err := Load(dir, LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	img, err := doc.Resolve(sel)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestExamplesResolve(t *testing.T) {
	tests := []struct {
		dir        string
		profiles   []string
		arch       string
		filesystem string
		kernel     string
	}{
		{"leap", nil, "x86_64", "xfs", "kernel-default"},
		{"debian", nil, "x86_64", "ext4", "linux-image-cloud-amd64"},
		{"debian", []string{"xfs"}, "x86_64", "xfs", "linux-image-cloud-amd64"},
		{"debian", nil, "aarch64", "ext4", "linux-image-cloud-arm64"},
	}
	for _, tt := range tests {
		img := resolveDir(t, filepath.Join("..", "examples", "container-to-vm", tt.dir), Selection{Profiles: tt.profiles, Arch: tt.arch})
		if img.Type.Image != "oem" || img.Type.Filesystem != tt.filesystem || img.Type.Firmware != "uefi" {
			t.Errorf("%s: type %s %s %s", tt.dir, img.Type.Image, img.Type.Filesystem, img.Type.Firmware)
		}
		if img.Type.OEM.Resize.Or(true) {
			t.Errorf("%s: the disk would grow", tt.dir)
		}
		if names := Names(img.Packages.System.Packages); !contains(names, tt.kernel) {
			t.Errorf("%s: packages %v lack %s", tt.dir, names, tt.kernel)
		}
	}
}
