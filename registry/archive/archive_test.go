package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testimage"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// testImage returns an image of two gzip layers, the first with a file named after label.
func testImage(t testing.TB, label string) v1.Image {
	t.Helper()
	img := testimage.Empty(t, func(c *v1.ConfigFile) { c.Config.Labels = map[string]string{"label": label} })
	for _, content := range []string{label, strings.Repeat("x", 3000)} {
		layer := testimage.Layer(t, types.OCILayer, content, tar.Header{Typeflag: tar.TypeReg, Name: "etc/" + content[:1], Mode: 0o644})
		img = testimage.Append(t, img, layer, v1.History{})
	}
	return img
}

func tarOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func parse(t testing.TB, s string) reference.Reference {
	t.Helper()
	ref, err := reference.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func open(t testing.TB, s string) *Archive {
	t.Helper()
	a, err := Open(t.Context(), parse(t, s), Options{Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// content says what is in an image: its config and its layers' tars.
func content(t testing.TB, img v1.Image) []string {
	t.Helper()
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	all := []string{string(config)}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		all = append(all, string(data))
	}
	return all
}

// forms are the references that a container can be written to in a directory.
func forms(dir string) map[string]string {
	return map[string]string{
		"oci":            "oci:" + dir + "/layout:leap:15.3",
		"oci-archive":    "oci-archive:" + dir + "/oci.tar:leap:15.3",
		"docker-archive": "docker-archive:" + dir + "/docker.tar:leap:15.3",
		"dir":            "dir:" + dir + "/dir",
	}
}

func TestRoundTrip(t *testing.T) {
	img := testImage(t, "a")
	for form, name := range forms(t.TempDir()) {
		t.Run(form, func(t *testing.T) {
			for range 2 { // the second time in the place of the first
				if err := Write(t.Context(), parse(t, name), img, WriteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			a := open(t, name)
			if diff := cmp.Diff(content(t, img), content(t, a)); diff != "" {
				t.Error(diff)
			}
			if form != "dir" && a.Name != "leap:15.3" {
				t.Errorf("its name is %q", a.Name)
			}
			layers, err := a.Layers()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range layers {
				blob, err := l.(manifest.BlobLayer).OpenBlob()
				if err != nil {
					t.Fatal(err)
				}
				want, _ := l.Digest()
				if got, _, _ := v1.SHA256(io.NewSectionReader(blob, 0, blob.Size())); got != want {
					t.Errorf("the blob's digest is %s, the layer says %s", got, want)
				}
				blob.Close()
			}
		})
	}
}

func TestSameBytes(t *testing.T) {
	var last map[string][]byte
	for range 2 {
		dir := t.TempDir()
		got := map[string][]byte{}
		for form, name := range forms(dir) {
			if err := Write(t.Context(), parse(t, name), testImage(t, "a"), WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			if file := parse(t, name).Path; strings.HasSuffix(file, ".tar") {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				got[form] = data
			}
		}
		if last != nil && !cmp.Equal(last, got) {
			t.Error("two archives of the same container differ")
		}
		last = got
	}
}

func TestSeveralInOneLayout(t *testing.T) {
	dir := t.TempDir() + "/layout"
	for _, name := range []string{"a:1", "registry.example.org:5000/b/c:2", "a:1"} {
		if err := Write(t.Context(), parse(t, "oci:"+dir), testImage(t, name), WriteOptions{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	names, err := Names(t.Context(), parse(t, "oci:"+dir), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"registry.example.org:5000/b/c:2", "a:1"}, names); diff != "" {
		t.Error(diff)
	}
	open(t, "oci:"+dir+":a:1")
	_, err = Open(t.Context(), parse(t, "oci:"+dir), Options{})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "a:1") {
		t.Errorf("opening one of several: %v", err)
	}
	_, err = Open(t.Context(), parse(t, "oci:"+dir+":x"), Options{})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "a:1") {
		t.Errorf("opening what is not there: %v", err)
	}
}

func TestFurtherTags(t *testing.T) {
	ref := parse(t, "docker-archive:"+t.TempDir()+"/d.tar:leap:15.3")
	opts := WriteOptions{Name: "other", Tags: []string{"leap:latest", "leap:15.3", "registry.example.org/leap:x", "@", "oci:x"}}
	if err := Write(t.Context(), ref, testImage(t, "a"), opts); err != nil {
		t.Fatal(err)
	}
	names, err := Names(t.Context(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"leap:15.3", "leap:latest", "registry.example.org/leap:x"}, names); diff != "" {
		t.Error(diff)
	}
}

// TestForeignReaders lets skopeo copy what we write, and reads what it made.
func TestForeignReaders(t *testing.T) {
	skopeo := testenv.NeedProgram(t, "skopeo")
	img := testImage(t, "a")
	dir := t.TempDir()
	for form, name := range forms(dir) {
		t.Run(form, func(t *testing.T) {
			if err := Write(t.Context(), parse(t, name), img, WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			for other, copied := range forms(t.TempDir()) {
				testenv.Run(t, skopeo, "--insecure-policy", "copy", "-q", name, copied)
				got := open(t, copied)
				if diff := cmp.Diff(content(t, img)[1:], content(t, got)[1:]); diff != "" {
					t.Errorf("copied to %s by skopeo: %s", other, diff)
				}
			}
		})
	}
}

func TestForeignUnpackers(t *testing.T) {
	umoci := testenv.NeedProgram(t, "umoci")
	testenv.NeedRoot(t)
	dir := t.TempDir()
	name := forms(dir)["oci"]
	if err := Write(t.Context(), parse(t, name), testImage(t, "a"), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := testenv.Run(t, umoci, "ls", "--layout", dir+"/layout"); strings.TrimSpace(got) != "leap:15.3" {
		t.Errorf("umoci lists %q", got)
	}
	testenv.Run(t, umoci, "unpack", "--image", dir+"/layout:leap:15.3", dir+"/bundle")
	data, err := os.ReadFile(dir + "/bundle/rootfs/etc/a")
	if err != nil || string(data) != "a" {
		t.Errorf("unpacked: %q, %v", data, err)
	}
}

func TestPodmanLoad(t *testing.T) {
	podman := testenv.NeedProgram(t, "podman")
	testenv.NeedRealRoot(t)
	dir := t.TempDir()
	run, err := os.MkdirTemp("", "run") // podman takes no longer path than 50 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	img := testImage(t, "a")
	for _, form := range []string{"oci-archive", "docker-archive"} {
		t.Run(form, func(t *testing.T) {
			name := forms(dir)[form]
			if err := Write(t.Context(), parse(t, name), img, WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			root := []string{"--root", dir + "/" + form, "--runroot", run, "--storage-driver", "vfs"}
			testenv.Run(t, podman, append(root, "load", "-i", parse(t, name).Path)...)
			list := testenv.Run(t, podman, append(root, "images", "--format", "{{.Repository}}:{{.Tag}}")...)
			if !strings.Contains(list, "leap:15.3") {
				t.Errorf("podman lists %q", list)
			}
		})
	}
}

// TestDockerSave reads the forms of docker save that no tool here writes.
func TestDockerSave(t *testing.T) {
	img := testImage(t, "a")
	want := content(t, img)
	config := []byte(want[0])
	sum, _, _ := v1.SHA256(bytes.NewReader(config))
	old := func(w *tar.Writer) {
		put(t, w, "1111/layer.tar", want[1])
		put(t, w, "2222/VERSION", "1.0")
		put(t, w, "3333/layer.tar", want[2])
		link(t, w, "2222/layer.tar", "../3333/layer.tar")
		put(t, w, sum.Hex+".json", want[0])
		put(t, w, "manifest.json", fmt.Sprintf(`[{"Config":"%s.json","RepoTags":["leap:15.3","b:1"],"Layers":["1111/layer.tar","2222/layer.tar"]}]`, sum.Hex))
		put(t, w, "repositories", "{}")
	}
	layers, _ := img.Layers()
	gz := func(n int) (v1.Hash, string) {
		d, _ := layers[n].Digest()
		r, err := layers[n].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(r)
		return d, string(data)
	}
	modern := func(w *tar.Writer) {
		var paths []string
		for n := range layers {
			d, data := gz(n)
			put(t, w, "blobs/sha256/"+d.Hex, data)
			paths = append(paths, "blobs/sha256/"+d.Hex)
		}
		put(t, w, "blobs/sha256/"+sum.Hex, want[0])
		list, _ := json.Marshal([]dockerImage{{Config: "blobs/sha256/" + sum.Hex, RepoTags: []string{"leap:15.3"}, Layers: paths}})
		put(t, w, "manifest.json", string(list))
		put(t, w, "oci-layout", `{"imageLayoutVersion": "1.0.0"}`)
	}
	for name, fill := range map[string]func(*tar.Writer){"old": old, "new": modern} {
		for _, compress := range []string{"cat", "gzip", "xz", "zstd", "bzip2"} {
			t.Run(name+"/"+compress, func(t *testing.T) {
				var buf bytes.Buffer
				w := tar.NewWriter(&buf)
				fill(w)
				w.Close()
				file := filepath.Join(t.TempDir(), "save.tar")
				cmd := exec.Command(testenv.NeedProgram(t, compress))
				cmd.Stdin = &buf
				out, err := cmd.Output()
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, out, 0o644); err != nil {
					t.Fatal(err)
				}
				for _, ref := range []string{"", ":leap:15.3", ":docker.io/library/leap:15.3", ":@0"} {
					if diff := cmp.Diff(want, content(t, open(t, "docker-archive:"+file+ref))); diff != "" {
						t.Errorf("%s: %s", ref, diff)
					}
				}
			})
		}
	}
}

func put(t *testing.T, w *tar.Writer, name, content string) {
	t.Helper()
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, w *tar.Writer, name, target string) {
	t.Helper()
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}); err != nil {
		t.Fatal(err)
	}
}

func TestHostile(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum, _, _ := v1.SHA256(strings.NewReader("secret"))
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + sum.String() + `"]}}`
	docker := func(config, layer string) string {
		return `[{"Config":"` + config + `","RepoTags":null,"Layers":["` + layer + `"]}]`
	}
	for name, fill := range map[string]func(*tar.Writer){
		"config outside": func(w *tar.Writer) { put(t, w, "manifest.json", docker("../../../../"+secret, "l")) },
		"layer outside": func(w *tar.Writer) {
			put(t, w, "c.json", config)
			put(t, w, "manifest.json", docker("c.json", secret))
		},
		"layer behind a link": func(w *tar.Writer) {
			put(t, w, "c.json", config)
			link(t, w, "l", secret)
			put(t, w, "manifest.json", docker("c.json", "l"))
		},
		"link to itself": func(w *tar.Writer) {
			put(t, w, "c.json", config)
			link(t, w, "l", "l")
			put(t, w, "manifest.json", docker("c.json", "l"))
		},
		"huge manifest":  func(w *tar.Writer) { put(t, w, "manifest.json", strings.Repeat(" ", manifest.MaxManifestSize+1)) },
		"no manifest":    func(w *tar.Writer) { put(t, w, "x", "") },
		"not json":       func(w *tar.Writer) { put(t, w, "manifest.json", "x") },
		"other diff ids": func(w *tar.Writer) { put(t, w, "c.json", "{}"); put(t, w, "manifest.json", docker("c.json", "c.json")) },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.tar")
			var buf bytes.Buffer
			w := tar.NewWriter(&buf)
			fill(w)
			w.Close()
			if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			a, err := Open(t.Context(), parse(t, "docker-archive:"+file), Options{})
			if err == nil {
				a.Close()
				t.Fatal("it was opened")
			}
			if !errors.Is(err, manifest.ErrInvalid) {
				t.Error(err)
			}
			t.Log(err)
		})
	}
	// A layout in a directory whose blob is a symbolic link that leads out of it.
	name := forms(dir)["oci"]
	if err := Write(t.Context(), parse(t, name), testImage(t, "a"), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	a := open(t, name)
	layers, _ := a.Layers()
	d, _ := layers[0].Digest()
	blob := filepath.Join(dir, "layout/blobs/sha256", d.Hex)
	os.Remove(blob)
	if err := os.Symlink(secret, blob); err != nil {
		t.Fatal(err)
	}
	if r, err := layers[0].Compressed(); err == nil {
		r.Close()
		t.Error("a symbolic link out of the layout was followed")
	}
}

func TestWrongDigestIsNotWritten(t *testing.T) {
	src := t.TempDir()
	name := forms(src)["oci"]
	if err := Write(t.Context(), parse(t, name), testImage(t, "a"), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	a := open(t, name)
	layers, _ := a.Layers()
	d, _ := layers[1].Digest()
	blob := filepath.Join(src, "layout/blobs/sha256", d.Hex)
	data, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-5] ^= 1
	if err := os.WriteFile(blob, data, 0o644); err != nil {
		t.Fatal(err)
	}
	dst := t.TempDir()
	for form, copied := range forms(dst) {
		if err := Write(t.Context(), parse(t, copied), a, WriteOptions{}); err == nil {
			t.Errorf("%s: a layer with another digest was written", form)
		}
	}
	if entries, _ := os.ReadDir(dst); len(entries) > 0 {
		t.Errorf("left over: %v", entries)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	for form, name := range forms(dir) {
		if err := Write(ctx, parse(t, name), testImage(t, "a"), WriteOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", form, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left over: %v", entries)
	}
}
