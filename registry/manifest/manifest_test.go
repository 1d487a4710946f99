package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

const sum = `"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`

// manifestWith returns a manifest with further members and the given layers.
func manifestWith(more, layers string) string {
	return `{"schemaVersion":2,` + more + `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":` + sum + `},"layers":[` + layers + `]}`
}

func TestParse(t *testing.T) {
	layer := `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":5,"digest":` + sum + `}`
	for name, test := range map[string]struct{ raw, want string }{
		"plain":            {manifestWith("", layer), ""},
		"no layers":        {manifestWith("", ""), ""},
		"oci":              {manifestWith(`"mediaType":"application/vnd.oci.image.manifest.v1+json",`, layer), ""},
		"docker":           {manifestWith(`"mediaType":"application/vnd.docker.distribution.manifest.v2+json",`, layer), ""},
		"not json":         {"x", "invalid character"},
		"empty":            {"", "unexpected end"},
		"an index":         {manifestWith(`"mediaType":"application/vnd.oci.image.index.v1+json",`, layer), "media type"},
		"both":             {manifestWith(`"manifests":[],`, layer), "index of several"},
		"schema 1":         {`{"schemaVersion":1,"fsLayers":[]}`, "schema 1"},
		"version 3":        {`{"schemaVersion":3}`, "schema version 3"},
		"negative size":    {manifestWith("", strings.Replace(layer, "5", "-5", 1)), "size -5"},
		"path as digest":   {manifestWith("", `{"size":1,"digest":"sha256:../../../etc/passwd"}`), "invalid"},
		"short digest":     {manifestWith("", `{"size":1,"digest":"sha256:abcd"}`), "invalid"},
		"other algorithm":  {manifestWith("", `{"size":1,"digest":"sha512:`+strings.Repeat("a", 128)+`"}`), "sha512"},
		"no digest":        {manifestWith("", `{"size":1}`), "digest"},
		"huge config":      {strings.Replace(manifestWith("", ""), `"size":2`, `"size":99999999999`, 1), "config"},
		"too many layers":  {manifestWith("", strings.Repeat(layer+",", MaxLayers)+layer), "layers"},
		"too large itself": {manifestWith(`"annotations":{"a":"`+strings.Repeat("x", MaxManifestSize)+`"},`, layer), "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(test.raw))
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want it to say %q", err, test.want)
			}
		})
	}
}

func TestToOCI(t *testing.T) {
	img, err := random.Image(100, 3) // of Docker's form
	if err != nil {
		t.Fatal(err)
	}
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	converted, err := ToOCI(raw)
	if err != nil {
		t.Fatal(err)
	}
	before, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	after, err := Parse(converted)
	if err != nil {
		t.Fatal(err)
	}
	if after.MediaType != types.OCIManifestSchema1 || after.Config.MediaType != types.OCIConfigJSON || after.Config.Digest != before.Config.Digest {
		t.Errorf("%+v", after)
	}
	for i, l := range after.Layers {
		if l.MediaType != types.OCILayer || l.Digest != before.Layers[i].Digest || l.Size != before.Layers[i].Size {
			t.Errorf("layer %d: %+v", i, l)
		}
	}
	again, err := ToOCI(converted)
	if err != nil || !bytes.Equal(again, converted) {
		t.Errorf("converting what is converted changes it: %v", err)
	}
}

func TestImageRefusesWhatDoesNotBelongTogether(t *testing.T) {
	img, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := img.RawManifest()
	config, _ := img.RawConfigFile()
	open := func(v1.Descriptor) (Blob, error) { return BytesBlob(nil), nil }
	if _, err := New(raw, config, open); err != nil {
		t.Error(err)
	}
	if _, err := New(raw, append(bytes.Clone(config), ' '), open); !errors.Is(err, ErrInvalid) {
		t.Errorf("another config: %v", err)
	}
	m, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	m.Layers = m.Layers[:1]
	fewer, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(fewer, config, open); !errors.Is(err, ErrInvalid) {
		t.Errorf("fewer layers than the config names: %v", err)
	}
}

func TestDecompress(t *testing.T) {
	want := strings.Repeat("some content ", 1000)
	for _, program := range []string{"cat", "gzip", "zstd", "bzip2"} {
		cmd := exec.Command(testenv.NeedProgram(t, program))
		cmd.Stdin = strings.NewReader(want)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		r, err := Decompress(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Errorf("%s: %v", program, err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s: %s", program, diff)
		}
		layer := NewLayer(v1.Descriptor{Size: int64(len(packed))}, v1.Hash{}, func(v1.Descriptor) (Blob, error) { return BytesBlob(packed), nil })
		plain, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(plain); err != nil || string(got) != want {
			t.Errorf("%s: a layer of it has %d bytes, %v", program, len(got), err)
		}
		plain.Close()
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(manifestWith("", `{"size":5,"digest":`+sum+`}`)))
	f.Add([]byte(manifestWith(`"mediaType":"application/vnd.docker.distribution.manifest.v2+json",`, "")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Parse(raw)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		for _, l := range m.Layers {
			if l.Size < 0 || len(l.Digest.Hex) != 64 || strings.ContainsAny(l.Digest.Hex, "./") {
				t.Errorf("a layer that should have been refused: %+v", l)
			}
		}
		converted, err := ToOCI(raw)
		if err != nil {
			t.Fatal(err)
		}
		if len(converted) > MaxManifestSize {
			return
		}
		after, err := Parse(converted)
		if err != nil {
			t.Fatalf("what was converted is refused: %v\n%s", err, converted)
		}
		if fmt.Sprint(after.Config.Digest, len(after.Layers)) != fmt.Sprint(m.Config.Digest, len(m.Layers)) {
			t.Error("converting changed more than media types")
		}
	})
}
