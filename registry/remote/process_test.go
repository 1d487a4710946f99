package remote

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/store"
)

// pullVar makes this test program pull a container and end: "NAME STORE [REGISTRIESCONF [CERTSD]]".
const pullVar = "IMGBUILD_TEST_PULL"

func TestMain(m *testing.M) {
	if what := os.Getenv(pullVar); what != "" {
		if err := pullAndEnd(strings.Fields(what)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// diskStore is the store as package registry hands it to a Client.
type diskStore struct{ *store.Store }

func (s diskStore) Partial(ctx context.Context, desc v1.Descriptor) (Partial, error) {
	p, err := s.Store.Partial(ctx, desc)
	if errors.Is(err, store.ErrBlobExists) {
		return nil, ErrBlobExists
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func pullAndEnd(what []string) error {
	ref, err := reference.Parse(what[0])
	if err != nil {
		return err
	}
	into, err := store.Open(what[1], store.Options{})
	if err != nil {
		return err
	}
	opts := Options{RetryDelay: time.Millisecond, CertDirs: []string{}}
	if len(what) > 2 {
		opts.RegistriesConf = what[2]
	}
	if len(what) > 3 {
		opts.CertDirs = what[3:]
	}
	c, err := New(opts)
	if err != nil {
		return err
	}
	if _, err = c.Pull(context.Background(), ref, diskStore{into}, ""); err != nil {
		return err
	}
	return errors.Join(c.Close(), into.Close())
}

// pullProcess starts this test program as a pull.
func pullProcess(t *testing.T, env []string, what ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.Command(self)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + home, "CONTAINERS_REGISTRIES_CONF=/dev/null",
		pullVar + "=" + strings.Join(what, " ")}, env...)
	return cmd
}

// TestKilledPullGoesOn kills a pull in the middle of a blob, several times, and expects the next to ask for the rest alone.
func TestKilledPullGoesOn(t *testing.T) {
	r := newRegistry(t)
	data := randomBytes(t, 6<<20)
	img := testImage(t, data)
	push(t, newClient(t, Options{}), img, r.ref(t, "a:1"))
	layer := digest.FromBytes(data)
	dir := t.TempDir()
	// Each connection passes 1.5 MB and then nothing, until the process is killed.
	sent := make(chan struct{}, 10)
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, layer.String()) || req.Header.Get("X-Slow") != "" {
			return false
		}
		req.Header.Set("X-Slow", "1")
		r.Config.Handler.ServeHTTP(&slow{ResponseWriter: w, left: 1_500_000, sent: sent, gone: req.Context().Done()}, req)
		return true
	})
	kept := []string{}
	for range 3 {
		cmd := pullProcess(t, nil, r.host+"/a:1", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-sent
		time.Sleep(300 * time.Millisecond) // what was sent shall arrive
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		lines := r.seen(layer.String())
		kept = append(kept, lines[len(lines)-1])
	}
	r.setFault(nil)
	cmd := pullProcess(t, nil, r.host+"/a:1", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	last := r.seen(layer.String())
	kept = append(kept, last...)
	for i, want := range []string{"", " bytes=1500000-6291455", " bytes=3000000-6291455", " bytes=4500000-6291455"} {
		if i >= len(kept) || !strings.HasSuffix(kept[i], want) {
			t.Fatalf("the requests for the layer were %q; that of pull %d should end in %q", kept, i, want)
		}
	}
	into, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer into.Close()
	blob, err := into.Blob(layer)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	got, err := digest.FromReader(io.NewSectionReader(blob, 0, blob.Size()))
	if err != nil || got != layer {
		t.Errorf("the blob in the store is %s, %v; want %s", got, err, layer)
	}
}

// slow passes so many bytes of an answer on, tells so, and then waits until the client is gone.
type slow struct {
	http.ResponseWriter
	left int
	sent chan struct{}
	gone <-chan struct{}
}

func (s *slow) Write(p []byte) (int, error) {
	if len(p) < s.left {
		s.left -= len(p)
		return s.ResponseWriter.Write(p)
	}
	if _, err := s.ResponseWriter.Write(p[:s.left]); err != nil {
		return 0, err
	}
	s.ResponseWriter.(http.Flusher).Flush()
	s.sent <- struct{}{}
	<-s.gone
	panic(http.ErrAbortHandler)
}

// proxy is an HTTP proxy that leads every host to one place.
type proxy struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func (p *proxy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p.mu.Lock()
		p.seen = append(p.seen, req.Method+" "+req.Host)
		p.mu.Unlock()
		if req.Method == http.MethodConnect {
			tunnel(t, w, to)
			return
		}
		out := req.Clone(req.Context())
		out.RequestURI, out.URL.Host = "", to
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	t.Cleanup(p.Close)
	return p
}

// tunnel joins the client's connection with one to the place.
func tunnel(t *testing.T, w http.ResponseWriter, to string) {
	server, err := net.Dial("tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	fmt.Fprint(client, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(server, bufio.NewReader(buffered))
	io.Copy(client, server)
}

func TestProxies(t *testing.T) {
	r := newRegistry(t)
	img := testImage(t, randomBytes(t, 1000))
	push(t, newClient(t, Options{}), img, r.ref(t, "a:1"))
	conf := writeFile(t, filepath.Join(t.TempDir(), "r.conf"), "[[registry]]\nlocation='registry.invalid:80'\ninsecure=true\n")

	plain := newProxy(t, r.host)
	env := []string{"HTTP_PROXY=" + plain.URL, "HTTPS_PROXY=" + plain.URL}
	if out, err := pullProcess(t, env, "registry.invalid:80/a:1", t.TempDir(), conf).CombinedOutput(); err != nil {
		t.Errorf("through HTTP_PROXY: %v: %s", err, out)
	}
	if len(plain.requests()) == 0 {
		t.Error("the proxy was not asked")
	}
	env = append(env, "NO_PROXY=registry.invalid")
	if out, err := pullProcess(t, env, "registry.invalid:80/a:1", t.TempDir(), conf).CombinedOutput(); err == nil || !strings.Contains(string(out), "registry.invalid") {
		t.Errorf("NO_PROXY: %v: %s", err, out)
	}

	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) }))
	defer closed.Close()
	host := strings.TrimPrefix(closed.URL, "http://")
	out, err := pullProcess(t, []string{"HTTPS_PROXY=http://me:s3cret@" + host}, "registry.invalid/a:1", t.TempDir()).CombinedOutput()
	if want := "the proxy " + host + " answered 407 Proxy Authentication Required; check HTTPS_PROXY and NO_PROXY\n"; err == nil || !strings.Contains(string(out), want) ||
		strings.Contains(string(out), "s3cret") {
		t.Errorf("a closed proxy gave %s, want %s", out, want)
	}

	// httptest's certificate is one for example.com.
	server := newTLSServer(registry.New(quiet()))
	defer server.Close()
	host = strings.TrimPrefix(server.URL, "https://")
	certs := t.TempDir()
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	writeFile(t, filepath.Join(certs, host, "ca.crt"), authority)
	writeFile(t, filepath.Join(certs, "example.com", "ca.crt"), authority)
	push(t, newClient(t, Options{CertDirs: []string{certs}}), img, mustParse(t, host+"/a:1"))
	secure := newProxy(t, host)
	if out, err := pullProcess(t, []string{"HTTPS_PROXY=" + secure.URL}, "example.com/a:1", t.TempDir(), "/dev/null", certs).CombinedOutput(); err != nil {
		t.Errorf("through HTTPS_PROXY: %v: %s", err, out)
	}
	if seen := secure.requests(); len(seen) == 0 || seen[0] != "CONNECT example.com:443" {
		t.Errorf("the proxy saw %q", seen)
	}

	// Docker Hub lies under another name than the one that users write, and its short names in library/.
	push(t, newClient(t, Options{CertDirs: []string{certs}}), img, mustParse(t, host+"/library/debian:12"))
	hub := newProxy(t, host)
	conf = writeFile(t, filepath.Join(t.TempDir(), "r.conf"), "unqualified-search-registries=['docker.io']\n[[registry]]\nlocation='docker.io'\ninsecure=true\n")
	for _, name := range []string{"docker.io/debian:12", "debian:12"} {
		if out, err := pullProcess(t, []string{"HTTPS_PROXY=" + hub.URL}, name, t.TempDir(), conf).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	if seen := hub.requests(); len(seen) == 0 || seen[0] != "CONNECT index.docker.io:443" {
		t.Errorf("the way to Docker Hub was %q", seen)
	}
}
