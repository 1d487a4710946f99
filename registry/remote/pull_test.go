package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/internal/progress"
)

func TestPushThenPull(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	img := testImage(t, randomBytes(t, 3<<20), randomBytes(t, 10), nil, randomBytes(t, 100_000))
	digest := push(t, c, img, r.ref(t, "a/b:1"))
	store := newMemoryStore()
	for _, name := range []string{"a/b:1", "a/b@" + digest.String(), "a/b:other@" + digest.String()} {
		p, err := c.Pull(t.Context(), r.ref(t, name), store, "linux/amd64")
		if err != nil {
			t.Fatal(err)
		}
		checkPulled(t, store, p, img)
		if p.Manifest.Digest != digest {
			t.Errorf("%s: the manifest is %s, want %s", name, p.Manifest.Digest, digest)
		}
	}
	r.setFault(nil)
	p, err := c.Pull(t.Context(), r.ref(t, "a/b:1"), store, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.seen("/blobs/"); len(got) != 1 {
		t.Errorf("a second pull fetched %q, want the config alone", got)
	}
	if p.Fetched != p.Config.Size || p.Reused != p.Size()-p.Config.Size {
		t.Errorf("a second pull says %d fetched and %d reused", p.Fetched, p.Reused)
	}
}

// TestPullResumes cuts every connection after 700,000 bytes, so that 8 MiB come in 12 pieces.
func TestPullResumes(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{Retries: 2})
	data := randomBytes(t, 8<<20)
	img := testImage(t, data)
	push(t, c, img, r.ref(t, "a:1"))
	layer := digest.FromBytes(data).String()
	r.setFault(nil)
	cutting := func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, layer) || req.Header.Get("X-Cut") != "" {
			return false
		}
		req.Header.Set("X-Cut", "1")
		r.Config.Handler.ServeHTTP(&cutter{ResponseWriter: w, left: 700_000}, req)
		return true
	}
	r.setFault(cutting)
	store := newMemoryStore()
	p, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	checkPulled(t, store, p, img)
	ranges := r.seen(" bytes=")
	if want := fmt.Sprintf(" bytes=700000-%d", len(data)-1); len(ranges) == 0 || !strings.HasSuffix(ranges[0], want) {
		t.Errorf("the first request for the rest is %q, want %q", ranges, want)
	}
	if p.Fetched != p.Size() {
		t.Errorf("%d bytes were fetched, want each of %d once", p.Fetched, p.Size())
	}
}

// TestPullGoesOnAfterFailure pulls with a client that gives up, and then again.
func TestPullGoesOnAfterFailure(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{Retries: -1})
	data := randomBytes(t, 2<<20)
	img := testImage(t, data)
	push(t, c, img, r.ref(t, "a:1"))
	layer := digest.FromBytes(data)
	cut := func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, layer.String()) || req.Header.Get("X-Cut") != "" {
			return false
		}
		req.Header.Set("X-Cut", "1")
		r.Config.Handler.ServeHTTP(&cutter{ResponseWriter: w, left: 500_000}, req)
		return true
	}
	r.setFault(cut)
	store := newMemoryStore()
	if _, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, ""); err == nil {
		t.Fatal("the cut pull succeeded")
	}
	if got := store.parts[layer].Size(); got != 500_000 {
		t.Fatalf("%d bytes are kept, want 500000", got)
	}
	r.setFault(nil)
	p, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
	if err != nil {
		t.Fatal(err)
	}
	checkPulled(t, store, p, img)
	if got := r.seen(" bytes=500000-2097151"); len(got) != 1 {
		t.Errorf("requests: %q, want one range from 500000 on", r.requests)
	}
}

func TestPullMendsRottenPart(t *testing.T) {
	for name, part := range map[string][]byte{
		"wrong bytes": make([]byte, 300_000),
		"too long":    make([]byte, 3<<20),
		"complete":    make([]byte, 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			c := newClient(t, Options{})
			data := randomBytes(t, 1<<20)
			img := testImage(t, data)
			push(t, c, img, r.ref(t, "a:1"))
			store := newMemoryStore()
			store.parts[digest.FromBytes(data)] = &memory{data: part}
			p, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
			if err != nil {
				t.Fatal(err)
			}
			checkPulled(t, store, p, img)
		})
	}
}

// TestRegistriesThatKnowNoRanges answers a range request with everything, with 416, or with another range.
func TestRegistriesThatKnowNoRanges(t *testing.T) {
	data := randomBytes(t, 1<<20)
	for name, answer := range map[string]http.HandlerFunc{
		"200": func(w http.ResponseWriter, _ *http.Request) { w.Write(data) },
		"416": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) },
		"206 of something else": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-9/%d", len(data)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(data[:10])
		},
		"206 without range": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusPartialContent)
			w.Write(data[300_000:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			c := newClient(t, Options{})
			img := testImage(t, data)
			push(t, c, img, r.ref(t, "a:1"))
			r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Header.Get("Range") == "" {
					return false
				}
				answer(w, req)
				return true
			})
			store := newMemoryStore()
			store.parts[digest.FromBytes(data)] = &memory{data: bytes.Clone(data[:300_000])}
			p, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
			if err != nil {
				t.Fatal(err)
			}
			checkPulled(t, store, p, img)
		})
	}
}

// TestLyingRegistries expects an error that is ErrInvalid and an empty store.
func TestLyingRegistries(t *testing.T) {
	data := randomBytes(t, 100_000)
	for name, answer := range map[string]func(http.ResponseWriter){
		"other bytes": func(w http.ResponseWriter) { w.Write(make([]byte, len(data))) },
		"too long":    func(w http.ResponseWriter) { w.Write(append(bytes.Clone(data), 0)) },
		"endless": func(w http.ResponseWriter) {
			for range 1000 {
				if _, err := w.Write(data); err != nil {
					return
				}
			}
		},
		"too short": func(w http.ResponseWriter) { w.Write(data[:50]) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			c := newClient(t, Options{})
			push(t, c, testImage(t, data), r.ref(t, "a:1"))
			r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.Contains(req.URL.Path, digest.FromBytes(data).String()) {
					return false
				}
				answer(w)
				return true
			})
			store := newMemoryStore()
			_, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("the pull gave %v, want ErrInvalid", err)
			}
			if has, _ := store.Has(t.Context(), digest.FromBytes(data)); has {
				t.Error("the blob is in the store")
			}
		})
	}
}

func TestRetries(t *testing.T) {
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			r := newRegistry(t)
			c := newClient(t, Options{})
			img := testImage(t, randomBytes(t, 1000))
			push(t, c, img, r.ref(t, "a:1"))
			var n atomic.Int64
			r.setFault(func(w http.ResponseWriter, _ *http.Request) bool {
				if n.Add(1)%2 == 0 {
					return false
				}
				w.WriteHeader(status)
				return true
			})
			store := newMemoryStore()
			p, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
			if err != nil {
				t.Fatal(err)
			}
			checkPulled(t, store, p, img)
		})
	}
	t.Run("not for good errors", func(t *testing.T) {
		r := newRegistry(t)
		c := newClient(t, Options{})
		push(t, c, testImage(t), r.ref(t, "a:1"))
		r.setFault(nil)
		if _, err := c.Resolve(t.Context(), r.ref(t, "a:2"), ""); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if got := r.seen("/manifests/2"); len(got) != 1 {
			t.Errorf("a missing tag was asked for %d times", len(got))
		}
	})
	t.Run("they end", func(t *testing.T) {
		r := newRegistry(t)
		c := newClient(t, Options{Retries: 3})
		r.setFault(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusBadGateway)
			return true
		})
		_, err := c.Resolve(t.Context(), r.ref(t, "a:1"), "")
		if err == nil || !strings.Contains(err.Error(), "502 Bad Gateway") {
			t.Error(err)
		}
	})
}

// notes is a progress.Reporter that keeps what the user is told.
type notes struct {
	progress.Reporter
	mu   sync.Mutex
	text []string
}

func (n *notes) Note(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text = append(n.text, text)
}

func TestRetryAfter(t *testing.T) {
	r := newRegistry(t)
	told := &notes{Reporter: progress.Discard}
	c := newClient(t, Options{Progress: told})
	push(t, c, testImage(t), r.ref(t, "a:1"))
	var first atomic.Bool
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/manifests/") || first.Swap(true) {
			return false
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	start := time.Now()
	if _, err := c.Resolve(t.Context(), r.ref(t, "a:1"), ""); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("the second request came after %s and not after the second that was asked for", took)
	}
	want := "the manifest of " + r.host + "/a: the registry answered 429 Too Many Requests; trying again in 1s"
	if len(told.text) != 1 || told.text[0] != want {
		t.Errorf("the user was told %q, want %q", told.text, want)
	}
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		"-1":                            0,
		"soon":                          0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("Retry-After %q is %s, want %s", value, got, want)
		}
	}
}

// TestStall has a registry that stops sending in the middle, once.
func TestStall(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{StallTimeout: 2 * time.Second}) // this machine may be busy for less
	data := randomBytes(t, 1<<20)
	img := testImage(t, data)
	push(t, newClient(t, Options{}), img, r.ref(t, "a:1"))
	release := make(chan struct{})
	defer close(release)
	var first atomic.Bool
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, digest.FromBytes(data).String()) || first.Swap(true) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:400_000])
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-req.Context().Done():
		}
		return true
	})
	store := newMemoryStore()
	p, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
	if err != nil {
		t.Fatal(err)
	}
	checkPulled(t, store, p, img)
	if got := r.seen(" bytes=400000-"); len(got) != 1 {
		t.Errorf("requests: %q", r.requests)
	}
}

func TestFullDisk(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	push(t, c, testImage(t, randomBytes(t, 1000)), r.ref(t, "a:1"))
	store := newMemoryStore()
	store.full = true
	r.setFault(nil)
	_, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
	if !errors.Is(err, errFull) {
		t.Errorf("the pull gave %v", err)
	}
	if got := r.seen("/blobs/"); len(got) > 2 {
		t.Errorf("a full disk led to retries: %q", got)
	}
}

func TestParallelBlobs(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{Jobs: 3})
	var layers [][]byte
	for range 12 {
		layers = append(layers, randomBytes(t, 1000))
	}
	img := testImage(t, layers...)
	push(t, c, img, r.ref(t, "a:1"))
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	var now, most atomic.Int64
	three := make(chan struct{})
	var once sync.Once
	r.setFault(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") && !strings.HasSuffix(req.URL.Path, config.String()) {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			if n == 3 {
				once.Do(func() { close(three) })
			}
			select {
			case <-three:
			case <-time.After(10 * time.Second):
			}
			time.Sleep(10 * time.Millisecond) // so that others could come
		}
		return false
	})
	store := newMemoryStore()
	p, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
	if err != nil {
		t.Fatal(err)
	}
	checkPulled(t, store, p, img)
	if most.Load() != 3 {
		t.Errorf("%d blobs came at once, want 3", most.Load())
	}
}

func TestSameLayerTwiceIsFetchedOnce(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	data := randomBytes(t, 1000)
	img := testImage(t, data, data)
	push(t, c, img, r.ref(t, "a:1"))
	r.setFault(nil)
	store := newMemoryStore()
	p, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.seen(digest.FromBytes(data).String()); len(got) != 1 || len(p.Layers) != 2 {
		t.Errorf("%d layers in %d requests", len(p.Layers), len(got))
	}
}

func TestConfigOfResolved(t *testing.T) {
	r := newRegistry(t)
	c := newClient(t, Options{})
	img := testImage(t, randomBytes(t, 10))
	push(t, c, img, r.ref(t, "a:1"))
	found, err := c.Resolve(t.Context(), r.ref(t, "a:1"), "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.FetchConfig(t.Context(), found)
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.RawConfigFile()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("config %s, want %s, %v", got, want, err)
	}
	var hash v1.Hash = found.Manifest.Digest
	if d, err := img.Digest(); err != nil || d != hash {
		t.Errorf("manifest %s, want %s, %v", hash, d, err)
	}
}

// TestForeignLayers has a layer that the registry doesn't keep and that is to be had elsewhere.
func TestForeignLayers(t *testing.T) {
	data := randomBytes(t, 100_000)
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/layer" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		http.ServeContent(w, req, "", noTime, bytes.NewReader(data))
	}))
	defer elsewhere.Close()
	pull := func(t *testing.T, urls ...string) error {
		r := newRegistry(t)
		c := newClient(t, Options{})
		c.transports[transportKey{}] = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, elsewhere.Listener.Addr().String())
			}}
		img, err := mutate.Append(testImage(t), mutate.Addendum{Layer: static.NewLayer(data, types.DockerForeignLayer), MediaType: types.DockerForeignLayer, URLs: urls})
		if err != nil {
			t.Fatal(err)
		}
		push(t, c, img, r.ref(t, "a:1"))
		store := newMemoryStore()
		store.parts[digest.FromBytes(data)] = &memory{data: bytes.Clone(data[:40_000])}
		p, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
		if err == nil {
			checkPulled(t, store, p, img)
		}
		return err
	}
	if err := pull(t, "https://127.0.0.1/layer", "https://layers.example/absent", "https://layers.example/layer"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"http://layers.example/layer", "https://10.0.0.1/layer", "https://localhost/layer", "https://[fe80::1]/layer", "file:///etc/passwd", "://"} {
		if err := pull(t, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s gave %v", bad, err)
		}
	}
}
