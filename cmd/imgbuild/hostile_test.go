package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// hostileLayers are layers that no honest tool makes. VICTIM stands for a directory outside of the tree.
func hostileLayers(victim string) map[string][]tar.Header {
	file := func(name string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o666, Size: 4}
	}
	return map[string][]tar.Header{
		"honest":       {file("etc/motd")},
		"dotdot":       {file("../../../../../../../../../.." + victim + "/taken")},
		"inner-dotdot": {file("etc/../../../../../../../../../../.." + victim + "/taken")},
		"absolute":     {file(victim + "/taken")},
		"symlink":      {{Typeflag: tar.TypeSymlink, Name: "escape", Linkname: victim}, file("escape/taken")},
		"symlink-up":   {{Typeflag: tar.TypeSymlink, Name: "escape", Linkname: "../../../../../../../../../.." + victim}, file("escape/taken")},
		"hardlink":     {{Typeflag: tar.TypeLink, Name: "mine", Linkname: victim + "/kept"}, file("mine")},
		"hardlink-up":  {{Typeflag: tar.TypeLink, Name: "mine", Linkname: "../../../../../../../../../.." + victim + "/kept"}},
		"whiteout":     {{Typeflag: tar.TypeReg, Name: "../../../../../../../../../.." + victim + "/.wh.kept"}},
		"endless-name": {file(string(bytes.Repeat([]byte("n"), 100000)))},
	}
}

// hostile writes an OCI layout with a container named "it": hostile KIND DIR VICTIM
func hostile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: hostile kind dir victim")
	}
	kind, dir, victim := args[0], ts.MkAbs(args[1]), ts.MkAbs(args[2])
	var packed, plain []byte
	switch headers := hostileLayers(victim)[kind]; {
	case headers != nil:
		plain = tarOf(ts, headers)
	case kind == "cut":
		plain = tarOf(ts, hostileLayers(victim)["honest"])[:514]
	case kind == "size":
		h := tar.Header{Typeflag: tar.TypeReg, Name: "huge", Mode: 0o644, Size: 1 << 60}
		var b bytes.Buffer
		ts.Check(tar.NewWriter(&b).WriteHeader(&h))
		plain = b.Bytes()
	case kind == "lie", kind == "diffid", kind == "bomb":
		plain = tarOf(ts, []tar.Header{{Typeflag: tar.TypeDir, Name: "other/" + kind, Mode: 0o755}})
	default:
		ts.Fatalf("no hostile container %q", kind)
	}
	if kind == "bomb" {
		packed, plain = bomb(ts)
	} else {
		packed = zipped(ts, plain)
	}
	diffID := digest.FromBytes(plain)
	if kind == "diffid" {
		diffID = digest.FromString("something else")
	}
	layer := ispec.Descriptor{MediaType: ispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(packed), Size: int64(len(packed))}
	if kind == "lie" {
		packed[len(packed)-5] ^= 1
	}
	writeBlob(ts, dir, layer.Digest, packed)
	config := putJSON(ts, dir, ispec.MediaTypeImageConfig, ispec.Image{Platform: ispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS: ispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}})
	manifest := putJSON(ts, dir, ispec.MediaTypeImageManifest, ispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ispec.MediaTypeImageManifest, Config: config, Layers: []ispec.Descriptor{layer}})
	manifest.Annotations = map[string]string{ispec.AnnotationRefName: "it"}
	index, err := json.Marshal(ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageIndex,
		Manifests: []ispec.Descriptor{manifest}})
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644))
	ts.Check(os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion": "1.0.0"}`), 0o644))
}

func tarOf(ts *testscript.TestScript, headers []tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		ts.Check(w.WriteHeader(&h))
		_, err := w.Write([]byte("evil")[:h.Size])
		ts.Check(err)
	}
	ts.Check(w.Close())
	return b.Bytes()
}

func zipped(ts *testscript.TestScript, plain []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(plain)
	ts.Check(err)
	ts.Check(w.Close())
	return b.Bytes()
}

// bomb is a file of zeros in a small layer that is said to be another. It returns the layer and what it claims to be.
func bomb(ts *testscript.TestScript) (packed, claimed []byte) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	ts.Check(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bomb", Mode: 0o644, Size: bombSize}))
	_, err := io.CopyN(w, zeros{}, bombSize)
	ts.Check(err)
	ts.Check(w.Close())
	ts.Check(z.Close())
	return b.Bytes(), []byte("a layer")
}

const bombSize = 64 << 20

// zeros is an endless stream of them.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func putJSON(ts *testscript.TestScript, dir, mediaType string, value any) ispec.Descriptor {
	data, err := json.Marshal(value)
	ts.Check(err)
	d := ispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	writeBlob(ts, dir, d.Digest, data)
	return d
}

func writeBlob(ts *testscript.TestScript, dir string, d digest.Digest, data []byte) {
	path := filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	ts.Check(os.WriteFile(path, data, 0o644))
}

// disguise makes a file that looks like a program for another machine: disguise FILE
func disguise(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: disguise file")
	}
	// elf(5): 64 bits, little endian, an executable for machine 183, EM_AARCH64.
	elf := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00\x01\x00\x00\x00")
	elf = append(elf, make([]byte, 64-len(elf))...)
	elf[52] = 64 // the header's size
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	ts.Check(os.WriteFile(path, elf, 0o755))
}
