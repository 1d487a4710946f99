package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/registry/reference"
)

func checkRegistry(t *testing.T, c *Client, r *testRegistry, name string, img v1.Image) {
	t.Helper()
	r.setFault(nil)
	store := newMemoryStore()
	p, err := c.Pull(t.Context(), r.ref(t, name), store, "")
	if err != nil {
		t.Fatal(err)
	}
	checkPulled(t, store, p, img)
}

func TestPushSendsOnlyWhatIsMissing(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	base := randomBytes(t, 2<<20)
	push(t, c, testImage(t, base), r.ref(t, "a:1"))
	r.setFault(nil)
	img := testImage(t, base, randomBytes(t, 1000))
	push(t, c, img, r.ref(t, "a:2"))
	if got := r.seen("POST "); len(got) != 2 {
		t.Errorf("uploads: %q, want those of the new layer and the config", got)
	}
	r.setFault(nil)
	push(t, c, img, r.ref(t, "a:2"))
	if got := r.seen("POST "); len(got) != 0 {
		t.Errorf("pushing again uploads %q", got)
	}
}

func TestPushMounts(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	base := randomBytes(t, 2<<20)
	push(t, c, testImage(t, base), r.ref(t, "base:1"))
	img := testImage(t, base, randomBytes(t, 1000))
	// The registry in this process keeps all blobs together, so a HEAD of another repository must be made to miss.
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodHead && strings.HasPrefix(req.URL.Path, "/v2/new/") {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	_, err := c.Push(t.Context(), img, r.ref(t, "new:1"), PushOptions{MountFrom: []reference.Reference{
		mustParse(t, "elsewhere.example/x:1"), mustParse(t, "short:1"), r.ref(t, "base:1"), r.ref(t, "new:0")}})
	if err != nil {
		t.Fatal(err)
	}
	layer := digest.FromBytes(base).String()
	mounts := r.seen("from=base&mount=" + strings.ReplaceAll(layer, ":", "%3A"))
	if len(mounts) != 1 {
		t.Errorf("requests: %q, want one mount of the base layer", r.requests)
	}
	if got := r.seen("PATCH "); len(got) != 0 {
		t.Errorf("the mounted layer was sent: %q", got)
	}
	checkRegistry(t, c, r, "new:1", img)
}

func TestPushInChunks(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{ChunkSize: 700_000})
	img := testImage(t, randomBytes(t, 3<<20), randomBytes(t, 700_000), randomBytes(t, 700_001))
	push(t, c, img, r.ref(t, "a:1"))
	if got := r.seen("PATCH "); len(got) != 5+2 {
		t.Errorf("%d pieces were sent, want 7: %q", len(got), got)
	}
	checkRegistry(t, c, r, "a:1", img)
}

// TestPushToProxyWithLimit refuses requests of more than 20 MB, as a proxy may.
func TestPushToProxyWithLimit(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	img := testImage(t, randomBytes(t, 24<<20))
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		if req.ContentLength <= 20_000_000 {
			return false
		}
		io.Copy(io.Discard, req.Body)
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return true
	})
	push(t, c, img, r.ref(t, "a:1"))
	checkRegistry(t, c, r, "a:1", img)
}

// TestPushGoesOn breaks uploads after 1 MB; the registry in this process keeps no broken piece, so whole pieces count.
func TestPushGoesOn(t *testing.T) {
	for name, chunk := range map[string]int64{"whole": 0, "chunks": 900_000} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			c := newClient(t, Options{ChunkSize: chunk})
			img := testImage(t, randomBytes(t, 5<<20))
			var n atomic.Int64
			r.setFault(func(_ http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodPatch || n.Add(1)%3 == 0 {
					return false
				}
				io.CopyN(io.Discard, req.Body, 500_000)
				panic(http.ErrAbortHandler)
			})
			push(t, c, img, r.ref(t, "a:1"))
			checkRegistry(t, c, r, "a:1", img)
		})
	}
}

// TestPushWithLostAnswers lets the registry do what it is asked but loses the answer.
func TestPushWithLostAnswers(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{Retries: 8})
	img := testImage(t, randomBytes(t, 3<<20), randomBytes(t, 1000))
	var n atomic.Int64
	inner := r.Config.Handler
	r.setFault(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Header.Get("X-Lost") != "" || n.Add(1)%3 != 0 {
			return false
		}
		req.Header.Set("X-Lost", "1")
		inner.ServeHTTP(discardResponse{http.Header{}}, req)
		panic(http.ErrAbortHandler)
	})
	push(t, c, img, r.ref(t, "a:1"))
	checkRegistry(t, c, r, "a:1", img)
}

type discardResponse struct{ header http.Header }

func (d discardResponse) Header() http.Header         { return d.header }
func (d discardResponse) Write(p []byte) (int, error) { return len(p), nil }
func (d discardResponse) WriteHeader(int)             {}

func TestPushLeavesForeignLayersOut(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	foreign := static.NewLayer(randomBytes(t, 100), types.DockerForeignLayer)
	img, err := mutate.Append(testImage(t, randomBytes(t, 10)), mutate.Addendum{Layer: foreign, MediaType: types.DockerForeignLayer,
		URLs: []string{"https://layers.example/x"}})
	if err != nil {
		t.Fatal(err)
	}
	push(t, c, img, r.ref(t, "a:1"))
	d, err := foreign.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got := r.seen(d.Hex); len(got) != 0 {
		t.Errorf("the foreign layer was sent: %q", got)
	}
}

// brokenLayer is a layer whose file can't be read to its end.
type brokenLayer struct{ v1.Layer }

var errDisk = errors.New("input/output error")

func (b brokenLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 1000)), errorReader{})), nil
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errDisk }

type brokenImage struct{ v1.Image }

func (b brokenImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := b.Image.LayerByDigest(h)
	return brokenLayer{l}, err
}

func TestPushOfUnreadableLayer(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	_, err := c.Push(t.Context(), brokenImage{testImage(t, randomBytes(t, 2<<20))}, r.ref(t, "a:1"), PushOptions{})
	if !errors.Is(err, errDisk) || len(r.seen("PATCH ")) > 1 {
		t.Errorf("the push gave %v after %q", err, r.seen("PATCH "))
	}
}

func TestPushNeedsRegistry(t *testing.T) {
	c := newClient(t, Options{})
	_, err := c.Push(t.Context(), testImage(t), mustParse(t, "leap:15.3"), PushOptions{})
	if err == nil || !strings.Contains(err.Error(), "registry.example.org/leap") {
		t.Error(err)
	}
}

func TestCancelledPush(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	r.setFault(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPatch {
			cancel(cause)
			io.Copy(io.Discard, req.Body)
			time.Sleep(10 * time.Millisecond)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	_, err := c.Push(ctx, testImage(t, randomBytes(t, 2<<20)), r.ref(t, "a:1"), PushOptions{})
	if !errors.Is(err, cause) {
		t.Errorf("the push gave %v", err)
	}
}

func TestTags(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	img := testImage(t)
	for i := range 12 {
		push(t, c, img, r.ref(t, fmt.Sprintf("a:15.%d", i)))
	}
	tags, err := c.Tags(t.Context(), r.ref(t, "a"))
	if err != nil || len(tags) != 12 || tags[0] != "15.0" {
		t.Errorf("tags %q, %v", tags, err)
	}
	pages := map[string]string{"": "/v2/a/tags/list?last=b&n=2", "b": "", "loop": "/v2/a/tags/list?last=loop"}
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, "/tags/list") {
			return false
		}
		last := req.URL.Query().Get("last")
		if next := pages[last]; next != "" {
			w.Header().Set("Link", "<"+next+`>; rel="next"`)
		}
		fmt.Fprintf(w, `{"name":"a","tags":["x%s","b"]}`, last)
		return true
	})
	tags, err = c.Tags(t.Context(), r.ref(t, "a"))
	if err != nil || fmt.Sprint(tags) != "[b x xb]" {
		t.Errorf("tags in pages: %q, %v", tags, err)
	}
	pages[""] = "https://elsewhere.example/v2/a/tags/list"
	if _, err = c.Tags(t.Context(), r.ref(t, "a")); !errors.Is(err, ErrInvalid) {
		t.Errorf("a page elsewhere gave %v", err)
	}
	pages[""], pages["loop"] = "/v2/a/tags/list?last=loop", "/v2/a/tags/list?last=loop"
	if _, err = c.Tags(t.Context(), r.ref(t, "a")); !errors.Is(err, ErrInvalid) {
		t.Errorf("endless pages gave %v", err)
	}
}

func TestPushByDigest(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	img := testImage(t, randomBytes(t, 10))
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	push(t, c, img, r.ref(t, "a@"+d.String()))
	push(t, c, img, r.ref(t, "a:1@"+d.String()))
	checkRegistry(t, c, r, "a:1", img)
	other := digest.FromString("other").String()
	if _, err := c.Push(t.Context(), img, r.ref(t, "a@"+other), PushOptions{}); err == nil || !strings.Contains(err.Error(), "is "+d.String()+" and not "+other) {
		t.Error(err)
	}
}
