package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/internal/testimage"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// fault is called for every request before the registry sees it; it returns true if it has answered.
var noTime time.Time

type fault func(w http.ResponseWriter, r *http.Request) bool

// testRegistry is a registry in this process that can be made to fail and that notes what it was asked.
type testRegistry struct {
	*httptest.Server
	host string

	mu       sync.Mutex
	fault    fault
	requests []string          // METHOD PATH[?QUERY] [Range]
	uploaded map[string]string // path of an upload -> Range
}

// complete adds what the registry in this process lacks: mounts, and the state of an upload.
func (r *testRegistry) complete(inner http.Handler, w http.ResponseWriter, req *http.Request) bool {
	r.mu.Lock()
	state, known := r.uploaded[req.URL.Path]
	r.mu.Unlock()
	mount := req.URL.Query().Get("mount")
	switch {
	case req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/uploads/"):
		if !known {
			state = "0-0"
		}
		w.Header().Set("Range", state)
		w.Header().Set("Location", req.URL.Path)
		w.WriteHeader(http.StatusNoContent)
		return true
	case req.Method == http.MethodPost && mount != "":
		found := httptest.NewRecorder()
		inner.ServeHTTP(found, httptest.NewRequest(http.MethodHead, "/v2/"+req.URL.Query().Get("from")+"/blobs/"+mount, nil))
		if found.Code == http.StatusOK {
			w.WriteHeader(http.StatusCreated)
			return true
		}
	}
	return false
}

// quiet keeps the registry in this process from logging.
func quiet() registry.Option { return registry.Logger(log.New(io.Discard, "", 0)) }

func newRegistry(t *testing.T) *testRegistry {
	t.Helper()
	inner := registry.New(quiet())
	r := &testRegistry{uploaded: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		line := req.Method + " " + req.URL.RequestURI()
		if value := req.Header.Get("Range"); value != "" {
			line += " " + value
		}
		r.mu.Lock()
		r.requests = append(r.requests, line)
		f := r.fault
		r.mu.Unlock()
		if f != nil && f(w, req) || r.complete(inner, w, req) {
			return
		}
		inner.ServeHTTP(w, req)
		if req.Method == http.MethodPatch {
			r.mu.Lock()
			r.uploaded[req.URL.Path] = w.Header().Get("Range")
			r.mu.Unlock()
		}
	}))
	t.Cleanup(r.Close)
	r.host = strings.TrimPrefix(r.URL, "http://")
	return r
}

func (r *testRegistry) setFault(f fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault, r.requests = f, nil
}

// seen returns the requests since the last setFault that contain text.
func (r *testRegistry) seen(text string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, line := range r.requests {
		if strings.Contains(line, text) {
			list = append(list, line)
		}
	}
	return list
}

func (r *testRegistry) ref(t *testing.T, name string) reference.Reference {
	t.Helper()
	return mustParse(t, r.host+"/"+name)
}

func mustParse(t *testing.T, s string) reference.Reference {
	t.Helper()
	ref, err := reference.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// cutter passes an answer through and breaks the connection after so many bytes of the body.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, err := c.ResponseWriter.Write(p[:c.left])
		if err != nil {
			return 0, err
		}
		if f, ok := c.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// noLogins is an environment without login files and configuration of the machine the test runs on.
func noLogins(t *testing.T) func(string) string {
	t.Helper()
	dir := t.TempDir()
	return func(name string) string {
		switch name {
		case "HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG":
			return dir
		case "CONTAINERS_REGISTRIES_CONF":
			return "/dev/null"
		}
		return ""
	}
}

// newClient fills in what makes tests quick and independent of the machine.
func newClient(t *testing.T, opts Options) *Client {
	t.Helper()
	if opts.Getenv == nil {
		opts.Getenv = noLogins(t)
	}
	if opts.RetryDelay == 0 {
		opts.RetryDelay = time.Millisecond
	}
	if opts.CertDirs == nil {
		opts.CertDirs = []string{}
	}
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func randomBytes(t *testing.T, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// testImage makes an image whose layers have these bytes.
func testImage(t *testing.T, layers ...[]byte) v1.Image {
	t.Helper()
	img := testimage.Empty(t, nil)
	for _, data := range layers {
		img = testimage.Append(t, img, static.NewLayer(data, types.OCIUncompressedLayer), v1.History{})
	}
	return img
}

func push(t *testing.T, c *Client, img v1.Image, ref reference.Reference) v1.Hash {
	t.Helper()
	digest, err := c.Push(t.Context(), img, ref, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// memoryStore is a BlobStore in memory that keeps parts.
type memoryStore struct {
	mu    sync.Mutex
	blobs map[digest.Digest][]byte
	parts map[digest.Digest]*memory
	full  bool // Write fails
}

func newMemoryStore() *memoryStore {
	return &memoryStore{blobs: map[digest.Digest][]byte{}, parts: map[digest.Digest]*memory{}}
}

func (s *memoryStore) Has(_ context.Context, d digest.Digest) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.blobs[d]
	return ok, nil
}

func (s *memoryStore) Partial(_ context.Context, desc v1.Descriptor) (Partial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := digest.Digest(desc.Digest.String())
	if s.parts[d] == nil {
		s.parts[d] = &memory{}
	}
	return &storePart{memory: s.parts[d], store: s, digest: d}, nil
}

func (s *memoryStore) blob(t *testing.T, d v1.Hash) []byte {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.blobs[digest.Digest(d.String())]
	if !ok {
		t.Fatalf("blob %s is not in the store", d)
	}
	return data
}

type storePart struct {
	*memory
	store  *memoryStore
	digest digest.Digest
}

var errFull = errors.New("no space left on device")

func (p *storePart) Write(data []byte) (int, error) {
	if p.store.full {
		return 0, errFull
	}
	return p.memory.Write(data)
}

func (p *storePart) Commit() error {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	if digest.FromBytes(p.data) != p.digest && p.digest.Algorithm() == digest.SHA256 {
		return fmt.Errorf("commit of %s with wrong content", p.digest)
	}
	p.store.blobs[p.digest] = p.data
	delete(p.store.parts, p.digest)
	return nil
}

// checkPulled compares what a store has with what was pushed.
func checkPulled(t *testing.T, store *memoryStore, p *Pulled, img v1.Image) {
	t.Helper()
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, p.RawManifest) {
		t.Errorf("the manifest is\n%s\nand was\n%s", p.RawManifest, raw)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		d, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		in, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, store.blob(t, d)) {
			t.Errorf("layer %s differs", d)
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(config, p.RawConfig) || !bytes.Equal(config, store.blob(t, p.Config.Digest)) {
		t.Error("the config differs")
	}
}
