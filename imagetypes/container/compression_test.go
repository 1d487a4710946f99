package container

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// TestCompressions are read by others, who name them by their media types.
func TestCompressions(t *testing.T) {
	testenv.NeedPrograms(t, "skopeo", "tar")
	for text, want := range map[string]struct{ media, magic string }{
		"":       {"application/vnd.oci.image.layer.v1.tar+gzip", ""},
		"gzip:9": {"application/vnd.oci.image.layer.v1.tar+gzip", "\x1f\x8b"},
		"zstd":   {"application/vnd.oci.image.layer.v1.tar+zstd", ""},
		"none":   {"application/vnd.oci.image.layer.v1.tar", "usr/"},
	} {
		for kind, from := range map[string]string{"oci": "oci-archive", "docker": "docker-archive"} {
			r := request(t, kind, fullConfig)
			if text != "" {
				compression, err := layers.ParseCompression(text)
				if err != nil {
					t.Fatal(err)
				}
				r.Container.Compression = &compression
			}
			if kind == "docker" && text == "zstd" {
				if err := (Builder{}).Check(t.Context(), r); err == nil || !strings.Contains(err.Error(), "docker load reads no layers") {
					t.Errorf("error is %v", err)
				}
				continue
			}
			file := build(t, r)
			if kind == "oci" {
				var m struct {
					Layers []struct{ MediaType string }
				}
				if err := json.Unmarshal([]byte(testenv.Run(t, "skopeo", "inspect", "--raw", from+":"+file)), &m); err != nil {
					t.Fatal(err)
				}
				if len(m.Layers) != 1 || m.Layers[0].MediaType != want.media {
					t.Errorf("%q: skopeo sees %+v", text, m.Layers)
				}
			} else if packed := testenv.Run(t, "tar", "-xOf", file, "--wildcards", "*.tar"); want.magic != "usr/" && !strings.HasPrefix(packed, want.magic) {
				t.Errorf("%q: the docker archive's layer begins with %q", text, packed[:4])
			}
			dir := t.TempDir()
			testenv.Run(t, "skopeo", "--insecure-policy", "copy", "--dest-decompress", from+":"+file, "dir:"+dir+"/out")
			if names := listed(t, dir+"/out"); !strings.Contains(names, "usr/bin/app\n") {
				t.Errorf("%s, %q: skopeo's copy has %s", kind, text, names)
			}
		}
	}
}

// listed lists the one layer of skopeo's directory.
func listed(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && len(data) > 512 && string(data[257:262]) == "ustar" {
			return testenv.Run(t, "tar", "-tf", f)
		}
	}
	t.Fatalf("there is no layer among %v", files)
	return ""
}

// TestArchiveAsAWhole is compressed by xz where the user wants it so, as KIWI does it.
func TestArchiveAsAWhole(t *testing.T) {
	testenv.NeedPrograms(t, "skopeo", "xz")
	for _, kind := range []string{"oci", "docker"} {
		plain, packed := request(t, kind, ""), request(t, kind, "")
		packed.Container.XZ = true
		file := build(t, packed)
		if want := filepath.Join(packed.Dir, "App.aarch64-1.0.0."+kind+".tar.xz"); file != want {
			t.Errorf("the file is %s", file)
		}
		if left, _ := filepath.Glob(filepath.Join(packed.Dir, "*")); len(left) != 1 {
			t.Errorf("left: %v", left)
		}
		inner, err := os.ReadFile(build(t, plain))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(len(inner), len(testenv.Run(t, "xz", "--decompress", "--stdout", file))); diff != "" {
			t.Errorf("%s: the archive in it is another: %s", kind, diff)
		}
	}
}

// TestKept is a container that a registry gets: a gzipped layer, whatever the archive holds.
func TestKept(t *testing.T) {
	for _, kind := range []string{"oci", "docker"} {
		r := request(t, kind, fullConfig)
		r.Container.Keep, r.Container.NoArchive = true, true
		made, err := Builder{}.Build(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if made[0].File != "" || made[0].Container == nil {
			t.Fatalf("%s: %+v", kind, made)
		}
		if diff := cmp.Diff([]string{"team/app:1.2", "team/app:latest", "other:3"}, made[0].Container.Names); diff != "" {
			t.Error(diff)
		}
		m, err := made[0].Container.Image.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if got := string(m.Layers[0].MediaType); got != "application/vnd.oci.image.layer.v1.tar+gzip" {
			t.Errorf("%s: the layer is %s", kind, got)
		}
		layers, err := made[0].Container.Image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := layers[0].Uncompressed(); err != nil {
			t.Errorf("%s: the layer is gone: %v", kind, err)
		}
	}
}
