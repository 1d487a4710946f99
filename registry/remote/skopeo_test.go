package remote

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// tarOf makes a tar stream with one file.
func tarOf(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// diffLayer is a layer of compressed bytes that knows its diff id.
type diffLayer struct {
	v1.Layer
	diffID v1.Hash
}

func (l diffLayer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// realImage makes an image of real layers in a compression and a format: "oci" or "v2s2".
func realImage(t *testing.T, format, compression string) v1.Image {
	t.Helper()
	kinds := map[string]types.MediaType{"oci none": types.OCIUncompressedLayer, "oci gzip": types.OCILayer, "oci zstd": types.OCILayerZStd,
		"v2s2 none": types.DockerUncompressedLayer, "v2s2 gzip": types.DockerLayer}
	img := empty.Image
	if format == "oci" {
		img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	}
	for i := range 3 {
		plain := tarOf(t, fmt.Sprintf("file%d", i), append(randomBytes(t, 50_000), make([]byte, 300_000*i)...))
		diffID, _, err := v1.SHA256(bytes.NewReader(plain))
		if err != nil {
			t.Fatal(err)
		}
		img, err = mutate.AppendLayers(img, diffLayer{static.NewLayer(compress(t, compression, plain), kinds[format+" "+compression]), diffID})
		if err != nil {
			t.Fatal(err)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func compress(t *testing.T, compression string, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch compression {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		z, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	default:
		return plain
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestSkopeoReadsOurs pushes every format to a real registry and has skopeo look at it and copy it.
func TestSkopeoReadsOurs(t *testing.T) {
	skopeo := testenv.NeedProgram(t, "skopeo")
	d := startDistribution(t, distributionOptions{})
	c := newClient(t, Options{})
	for _, kind := range []string{"oci none", "oci gzip", "oci zstd", "v2s2 gzip"} {
		t.Run(kind, func(t *testing.T) {
			format, compression, _ := strings.Cut(kind, " ")
			img := realImage(t, format, compression)
			name := d.host + "/" + format + "/" + compression + ":1"
			digest := push(t, c, img, mustParse(t, name))
			var seen struct {
				Digest string
				Layers []string
			}
			text := testenv.Run(t, skopeo, "inspect", "--tls-verify=false", "docker://"+name)
			if err := json.Unmarshal([]byte(text), &seen); err != nil {
				t.Fatal(err)
			}
			if seen.Digest != digest.String() || len(seen.Layers) != 3 {
				t.Errorf("skopeo sees %+v, we pushed %s", seen, digest)
			}
			dir := t.TempDir()
			testenv.Run(t, skopeo, "copy", "--preserve-digests", "--src-tls-verify=false", "docker://"+name, "dir:"+dir)
			raw, err := img.RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "manifest.json")); err != nil || !bytes.Equal(got, raw) {
				t.Errorf("skopeo copied another manifest: %s, %v", got, err)
			}
		})
	}
}

// TestWeReadSkopeos has skopeo push a layout in every format it writes and pulls it.
func TestWeReadSkopeos(t *testing.T) {
	skopeo := testenv.NeedProgram(t, "skopeo")
	d := startDistribution(t, distributionOptions{})
	dir := t.TempDir()
	if _, err := layout.Write(dir, empty.Index); err != nil {
		t.Fatal(err)
	}
	if err := layout.Path(dir).AppendImage(realImage(t, "oci", "gzip"), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "1"})); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Options{})
	for name, args := range map[string][]string{
		"oci":  {"--format", "oci"},
		"v2s2": {"--format", "v2s2"},
		"zstd": {"--format", "oci", "--dest-compress", "--dest-compress-format", "zstd"},
	} {
		t.Run(name, func(t *testing.T) {
			to := d.host + "/from-skopeo/" + name + ":1"
			testenv.Run(t, skopeo, append(append([]string{"copy", "--dest-tls-verify=false"}, args...), "oci:"+dir+":1", "docker://"+to)...)
			want := testenv.Run(t, skopeo, "inspect", "--tls-verify=false", "--raw", "docker://"+to)
			store := newMemoryStore()
			p, err := c.Pull(t.Context(), mustParse(t, to), store, "linux/amd64")
			if err != nil {
				t.Fatal(err)
			}
			if string(p.RawManifest) != want || len(p.Layers) != 3 {
				t.Errorf("pulled\n%s\nskopeo has\n%s", p.RawManifest, want)
			}
			for _, desc := range append(p.Layers, p.Config) {
				if got := store.blob(t, desc.Digest); int64(len(got)) != desc.Size {
					t.Errorf("blob %s has %d bytes, want %d", desc.Digest, len(got), desc.Size)
				}
			}
		})
	}
}

// TestSkopeosLogin uses the file that skopeo login (and so podman login) writes.
func TestSkopeosLogin(t *testing.T) {
	skopeo := testenv.NeedProgram(t, "skopeo")
	d := startDistribution(t, distributionOptions{password: "s3cret:x"})
	file := filepath.Join(t.TempDir(), "auth.json")
	testenv.Run(t, skopeo, "login", "--tls-verify=false", "--authfile", file, "-u", "me", "-p", "s3cret:x", d.host)
	push(t, newClient(t, Options{AuthFiles: []string{file}}), testImage(t, randomBytes(t, 100)), mustParse(t, d.host+"/a:1"))
}
