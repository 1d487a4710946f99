package registry

import (
	"bytes"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	inprocess "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// slowRegistry is a registry that gives blobs the way a test wants.
type slowRegistry struct {
	http.Handler
	blob atomic.Pointer[func(w http.ResponseWriter, data []byte) bool] // false: as usual
}

func (r *slowRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	serve := r.blob.Load()
	if serve == nil || req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/blobs/") {
		r.Handler.ServeHTTP(w, req)
		return
	}
	recorded := httptest.NewRecorder()
	r.Handler.ServeHTTP(recorded, req)
	for key, values := range recorded.Header() {
		w.Header()[key] = values
	}
	if !(*serve)(w, recorded.Body.Bytes()) {
		w.WriteHeader(recorded.Code)
		_, _ = w.Write(recorded.Body.Bytes()) // the client may have gone
	}
}

// serveLayer puts an image with one layer of the given bytes into a registry and returns its name there.
func serveLayer(t *testing.T, data []byte) (string, *slowRegistry) {
	t.Helper()
	r := &slowRegistry{Handler: inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0)))}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	name := strings.TrimPrefix(s.URL, "http://") + "/a/b:1"
	img, err := mutate.Append(testImage(t, "x", false), mutate.Addendum{Layer: static.NewLayer(data, types.OCIUncompressedLayer), MediaType: types.OCIUncompressedLayer})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, name, img)
	return name, r
}

func noise(size int) []byte {
	data := make([]byte, size)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	return data
}

// arrivals reads layers as they arrive.
type arrivals struct {
	wait  sync.WaitGroup
	mu    sync.Mutex
	found map[digest.Digest][]error // why the readings of a layer ended; nil when all of it was right
}

func (a *arrivals) read(want []byte, each func(n int)) func(digest.Digest, Blob) {
	a.found = map[digest.Digest][]error{}
	return func(sum digest.Digest, blob Blob) {
		if blob.Size() != int64(len(want)) {
			_ = blob.Close() // the other layer
			return
		}
		a.wait.Go(func() {
			var got []byte
			in := io.NewSectionReader(blob, 0, blob.Size())
			p := make([]byte, 100_000)
			n, err := in.Read(p)
			for ; err == nil; n, err = in.Read(p) {
				got = append(got, p[:n]...)
				each(len(got))
			}
			if err == io.EOF {
				err = nil
				if !bytes.Equal(got, want) {
					err = errors.New("other bytes came")
				}
			}
			err = errors.Join(err, blob.Close())
			a.mu.Lock()
			defer a.mu.Unlock()
			a.found[sum] = append(a.found[sum], err)
		})
	}
}

func (a *arrivals) of(data []byte) []error {
	a.wait.Wait()
	return a.found[digest.FromBytes(data)]
}

// The first half of a layer is read before the registry gives the second.
func TestLayersAreReadWhileTheyCome(t *testing.T) {
	data := noise(1_000_000)
	name, r := serveLayer(t, data)
	half := make(chan struct{})
	serve := func(w http.ResponseWriter, body []byte) bool {
		if !bytes.Equal(body, data) {
			return false
		}
		_, _ = w.Write(body[:500_000])
		w.(http.Flusher).Flush()
		<-half
		_, _ = w.Write(body[500_000:])
		return true
	}
	r.blob.Store(&serve)
	var a arrivals
	var once sync.Once
	fetch(t, newClient(t, t.TempDir()), name, FetchOptions{Arriving: a.read(data, func(n int) {
		if n == 500_000 {
			once.Do(func() { close(half) })
		}
	})})
	if found := a.of(data); len(found) != 1 || found[0] != nil {
		t.Errorf("readings ended with %v", found)
	}
}

// A layer whose transfer breaks and goes on is read as if nothing had happened.
func TestLayersThatBreakOffAndGoOn(t *testing.T) {
	data := noise(3_000_000)
	name, r := serveLayer(t, data)
	serve := func(w http.ResponseWriter, body []byte) bool {
		if len(body) < 1_600_000 {
			return false
		}
		_, _ = w.Write(body[:1_500_000])
		panic(http.ErrAbortHandler)
	}
	r.blob.Store(&serve)
	c := newClient(t, t.TempDir())
	var a arrivals
	opts := FetchOptions{Platform: "linux/amd64", Arriving: a.read(data, func(int) {})}
	if _, err := c.Fetch(t.Context(), name, opts); err == nil { // this client does not try again
		t.Fatal("a pull that broke off succeeded")
	}
	if found := a.of(data); len(found) != 1 || !errors.Is(found[0], errBroken) {
		t.Errorf("of the transfer that broke off: %v", found)
	}
	r.blob.Store(nil)
	fetch(t, c, name, opts)
	if found := a.of(data); len(found) != 2 || found[1] != nil {
		t.Errorf("of the one that went on: %v", found)
	}
}

// Who has read wrong bytes is told so at the latest when Fetch fails.
func TestWrongLayersAreNotKept(t *testing.T) {
	data := noise(1_000_000)
	name, r := serveLayer(t, data)
	serve := func(w http.ResponseWriter, body []byte) bool {
		if len(body) != len(data) {
			return false
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), len(body)))
		return true
	}
	r.blob.Store(&serve)
	c := newClient(t, t.TempDir())
	var a arrivals
	if img, err := c.Fetch(t.Context(), name, FetchOptions{Platform: "linux/amd64", Arriving: a.read(data, func(int) {})}); !errors.Is(err, ErrInvalid) {
		t.Errorf("wrong bytes gave %v, %v", img, err)
	}
	if found := a.of(data); len(found) != 1 || found[0] == nil {
		t.Errorf("readings ended with %v", found)
	}
}

// What is in the store already does not arrive, and configs are no layers.
func TestOnlyNewLayersArrive(t *testing.T) {
	name, _ := serveLayer(t, noise(1000))
	c := newClient(t, t.TempDir())
	for _, want := range []int{2, 0} {
		var mu sync.Mutex
		var came []digest.Digest
		img := fetch(t, c, name, FetchOptions{Pull: PullAlways, Arriving: func(sum digest.Digest, blob Blob) {
			mu.Lock()
			defer mu.Unlock()
			came = append(came, sum)
			_ = blob.Close()
		}})
		if len(came) != want {
			t.Errorf("%d layers came, not %d", len(came), want)
		}
		for _, sum := range came {
			if _, err := img.LayerByDigest(v1.Hash{Algorithm: "sha256", Hex: sum.Encoded()}); err != nil {
				t.Error(err)
			}
		}
	}
}
