// Package testimage makes small containers for tests.
package testimage

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Empty returns a container for linux/amd64 without layers, in the OCI's form. change, if not nil, changes its config.
func Empty(t testing.TB, change func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	return WithConfig(t, mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), change)
}

// WithConfig makes an image one for linux/amd64; change, if not nil, changes more of its config.
func WithConfig(t testing.TB, img v1.Image, change func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if change != nil {
		change(config)
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// Append returns base with one more layer, of base's form.
func Append(t testing.TB, base v1.Image, layer v1.Layer, history v1.History) v1.Image {
	t.Helper()
	mediaType, err := layer.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.Append(base, mutate.Addendum{Layer: layer, MediaType: mediaType, History: history})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Layer returns a gzip layer: of a tar with an entry for each header, of which the regular files all have the same content.
func Layer(t testing.TB, mediaType types.MediaType, content string, headers ...tar.Header) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(mediaType))
	if err != nil {
		t.Fatal(err)
	}
	return layer
}
