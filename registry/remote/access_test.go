package remote

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/imgbuild/imgbuild/registry/reference"
)

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func loginFile(t *testing.T, key, name, password string) string {
	t.Helper()
	text := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, key, base64.StdEncoding.EncodeToString([]byte(name+":"+password)))
	return writeFile(t, filepath.Join(t.TempDir(), "auth.json"), text)
}

// logged returns a logger and what it wrote.
func logged() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var text bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	})
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})), func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestBearer has a registry that wants tokens which its token server gives to those who know the password, for the
// repository they are for, and for six requests only.
func TestBearer(t *testing.T) {
	r := newRegistry(t)
	var mu sync.Mutex
	uses := map[string]int{}
	issued := 0
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if req.URL.Path == "/token" {
			if name, password, ok := req.BasicAuth(); !ok || name != "me" || password != "s3cret" {
				w.WriteHeader(http.StatusUnauthorized)
				fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`)
				return true
			}
			issued++
			token := fmt.Sprintf("t0ken-%d-%s", issued, strings.Join(req.URL.Query()["scope"], "+"))
			fmt.Fprintf(w, `{"token": %q}`, token)
			return true
		}
		token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		uses[token]++
		if !strings.HasPrefix(token, "t0ken-") || uses[token] > 6 {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="reg"`, req.Host))
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return true
		}
		return false
	})
	log, text := logged()
	c := newClient(t, Options{AuthFiles: []string{loginFile(t, r.host+"/a", "me", "s3cret")}, Log: log})
	img := testImage(t, randomBytes(t, 3<<20), randomBytes(t, 100), randomBytes(t, 200), randomBytes(t, 300))
	push(t, c, img, r.ref(t, "a/b:1"))
	store := newMemoryStore()
	p, err := c.Pull(t.Context(), r.ref(t, "a/b:1"), store, "")
	if err != nil {
		t.Fatal(err)
	}
	checkPulled(t, store, p, img)
	if got := r.seen("scope=repository%3Aa%2Fb%3Apull"); len(got) == 0 {
		t.Errorf("no token was asked for the repository: %q", r.seen("/token"))
	}
	if strings.Contains(text(), "s3cret") || strings.Contains(text(), "t0ken") {
		t.Errorf("a secret is in the log:\n%s", text())
	}

	_, err = newClient(t, Options{}).Resolve(t.Context(), r.ref(t, "a/b:1"), "")
	want := fmt.Sprintf("finding %s/a/b:1: %s denies access (401 Unauthorized); check the name, or log in with podman login %s or docker login %s", r.host, r.host, r.host, r.host)
	if !errors.Is(err, ErrDenied) || err.Error() != want {
		t.Errorf("without credentials:\n%v, want\n%s", err, want)
	}
	file := loginFile(t, r.host, "me", "wr0ng")
	_, err = newClient(t, Options{AuthFiles: []string{file}}).Resolve(t.Context(), r.ref(t, "a/b:1"), "")
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "with the credentials of "+file) || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("with a wrong password: %v", err)
	}
}

// TestIdentityToken expects the OAuth exchange that docker login with a token needs.
func TestIdentityToken(t *testing.T) {
	r := newRegistry(t)
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		switch {
		case req.URL.Path == "/token":
			if req.Method != http.MethodPost || req.FormValue("grant_type") != "refresh_token" || req.FormValue("refresh_token") != "s3cret" {
				w.WriteHeader(http.StatusBadRequest)
				return true
			}
			fmt.Fprint(w, `{"access_token": "t0ken"}`)
			return true
		case req.Header.Get("Authorization") != "Bearer t0ken":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="reg"`, req.Host))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	})
	file := writeFile(t, filepath.Join(t.TempDir(), "config.json"), fmt.Sprintf(`{"auths": {%q: {"identitytoken": "s3cret"}}}`, r.host))
	c := newClient(t, Options{AuthFiles: []string{file}})
	push(t, c, testImage(t, randomBytes(t, 10)), r.ref(t, "a:1"))
}

// TestRedirectKeepsToken sends blobs elsewhere, as registries in clouds do, and expects that the password stays here.
func TestRedirectKeepsToken(t *testing.T) {
	r := newRegistry(t)
	var mu sync.Mutex
	var leaked, ranged bool
	data := randomBytes(t, 100_000)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		leaked = leaked || req.Header.Get("Authorization") != ""
		ranged = ranged || req.Header.Get("Range") == "bytes=30000-99999"
		mu.Unlock()
		if req.Header.Get("Range") == "" {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			w.Write(data[:30_000])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, req, "", noTime, bytes.NewReader(data))
	}))
	defer other.Close()
	img := testImage(t, data)
	push(t, newClient(t, Options{}), img, r.ref(t, "a:1"))
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		if _, _, ok := req.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		layers, _ := img.Layers()
		d, _ := layers[0].Digest()
		if strings.Contains(req.URL.Path, d.String()) {
			http.Redirect(w, req, other.URL+"/blob?Signature=s3cret", http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	log, text := logged()
	c := newClient(t, Options{AuthFiles: []string{loginFile(t, r.host, "me", "s3cret")}, Log: log})
	store := newMemoryStore()
	p, err := c.Pull(t.Context(), r.ref(t, "a:1"), store, "")
	if err != nil {
		t.Fatal(err)
	}
	checkPulled(t, store, p, img)
	if leaked || !ranged {
		t.Errorf("the other server saw a password: %v; saw the range: %v", leaked, ranged)
	}
	if strings.Contains(text(), "s3cret") {
		t.Errorf("a signature is in the log:\n%s", text())
	}
	other.Close()
	if _, err = c.Pull(t.Context(), r.ref(t, "a:1"), newMemoryStore(), ""); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error of a redirect is %v", err)
	}
}

// newTLSServer starts a server with a certificate that nobody vouches for, which doesn't log the handshakes that fail.
func newTLSServer(handler http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	return s
}

func TestSelfSigned(t *testing.T) {
	server := newTLSServer(registry.New(quiet()))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	certs := t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	writeFile(t, filepath.Join(certs, host, "ca.crt"), string(authority))
	img := testImage(t, randomBytes(t, 10))
	ref := mustParse(t, host+"/a:1")
	yes, no := true, false

	_, err := newClient(t, Options{}).Push(t.Context(), img, ref, PushOptions{})
	if err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority; put the certificate of its authority into /etc/containers/certs.d/"+host+
		"/ca.crt, or use --tls-verify=false") {
		t.Errorf("an unknown authority gave %v", err)
	}
	push(t, newClient(t, Options{CertDirs: []string{filepath.Join(certs, "absent"), certs}}), img, ref)
	push(t, newClient(t, Options{CertDirs: []string{filepath.Join(certs, host)}}), img, ref)
	config := t.TempDir()
	writeFile(t, filepath.Join(config, "containers", "certs.d", host, "ca.crt"), string(authority))
	usual, err := New(Options{RetryDelay: time.Millisecond, Getenv: func(name string) string {
		return map[string]string{"XDG_CONFIG_HOME": config, "CONTAINERS_REGISTRIES_CONF": "/dev/null"}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	push(t, usual, img, ref)
	push(t, newClient(t, Options{TLSVerify: &no}), img, ref)
	conf := writeFile(t, filepath.Join(t.TempDir(), "registries.conf"), fmt.Sprintf("[[registry]]\nlocation=%q\ninsecure=true\n", host))
	push(t, newClient(t, Options{RegistriesConf: conf}), img, ref)
	if _, err := newClient(t, Options{RegistriesConf: conf, TLSVerify: &yes}).Push(t.Context(), img, ref, PushOptions{}); err == nil {
		t.Error("--tls-verify=true does not win over registries.conf")
	}
	writeFile(t, filepath.Join(certs, host, "client.cert"), string(authority))
	_, err = newClient(t, Options{CertDirs: []string{certs}}).Resolve(t.Context(), ref, "")
	if err == nil || !strings.Contains(err.Error(), "client.cert has no key client.key beside it") {
		t.Errorf("a certificate without key gave %v", err)
	}
	writeFile(t, filepath.Join(certs, host, "ca.crt"), "nonsense")
	if _, err = newClient(t, Options{CertDirs: []string{certs}}).Resolve(t.Context(), ref, ""); err == nil || !strings.Contains(err.Error(), "ca.crt holds no certificate") {
		t.Errorf("a bad authority gave %v", err)
	}
}

// TestGuard holds plain http back from every host that isn't this machine, private networks included.
func TestGuard(t *testing.T) {
	for _, test := range []struct {
		url                string
		insecure, loopback bool
		allowed            bool
	}{
		{"https://h.example/", false, false, true},
		{"http://h.example/", false, false, false},
		{"http://10.0.0.1/", false, false, false},
		{"http://192.168.1.2:5000/", false, false, false},
		{"http://h.example/", true, false, true},
		{"http://127.0.0.1:5000/", false, true, true},
		{"http://[::1]:5000/", false, true, true},
		{"http://localhost/", false, true, true},
		{"http://h.example/", false, true, false},
		{"http://localhost.example/", false, true, false},
	} {
		g := guard{inner: roundTripper(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200}, nil }),
			insecure: test.insecure, loopback: test.loopback}
		req, err := http.NewRequest(http.MethodGet, test.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.RoundTrip(req); (err == nil) != test.allowed {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestMirrorsAndSearchList(t *testing.T) {
	good, bad, main := newRegistry(t), newRegistry(t), newRegistry(t)
	img := testImage(t, randomBytes(t, 1<<20))
	c := newClient(t, Options{})
	push(t, c, img, good.ref(t, "cache/ns/a:1"))
	push(t, c, img, bad.ref(t, "ns/a:1"))
	onlyMain := testImage(t, randomBytes(t, 10))
	push(t, c, onlyMain, main.ref(t, "ns/b:1"))
	// The bad mirror has the manifest and breaks every blob in the middle.
	bad.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/blobs/") || req.Header.Get("X-Cut") != "" {
			return false
		}
		req.Header.Set("X-Cut", "1")
		bad.Config.Handler.ServeHTTP(&cutter{ResponseWriter: w, left: 100}, req)
		return true
	})
	conf := writeFile(t, filepath.Join(t.TempDir(), "registries.conf"), fmt.Sprintf(`
unqualified-search-registries = ["127.0.0.1:1", %q]
[aliases]
short = "registry.test/ns/a"
[[registry]]
prefix = "registry.test"
location = %q
[[registry.mirror]]
location = "127.0.0.1:1"
[[registry.mirror]]
location = %q
[[registry.mirror]]
location = %q
[[registry]]
prefix = "blocked.test"
blocked = true
`, main.host+"/ns", main.host, bad.host, good.host+"/cache"))
	c = newClient(t, Options{RegistriesConf: conf, Retries: 1})
	for name, want := range map[string]struct{ name, place string }{
		"registry.test/ns/a:1": {"registry.test/ns/a:1", good.host},
		"short:1":              {"registry.test/ns/a:1", good.host},
		"registry.test/ns/b:1": {"registry.test/ns/b:1", main.host},
		"b:1":                  {main.host + "/ns/b:1", main.host},
	} {
		store := newMemoryStore()
		p, err := c.Pull(t.Context(), mustParse(t, name), store, "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Reference.String() != want.name || p.Endpoint.Reference.Domain != want.place {
			t.Errorf("%s came as %s from %s, want %s from %s", name, p.Reference, p.Endpoint.Reference.Domain, want.name, want.place)
		}
	}
	_, err := c.Pull(t.Context(), mustParse(t, "blocked.test/x:1"), newMemoryStore(), "")
	if err == nil || !strings.Contains(err.Error(), "blocked in "+conf) {
		t.Errorf("a blocked registry gave %v", err)
	}
	_, err = c.Pull(t.Context(), mustParse(t, "nowhere:1"), newMemoryStore(), "")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "; then ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a short name that is nowhere gave %v", err)
	}
	if _, err := c.Push(t.Context(), onlyMain, mustParse(t, "registry.test/ns/c:1"), PushOptions{}); err != nil {
		t.Error(err)
	}
	if got := main.seen("PUT /v2/ns/c/manifests/1"); len(got) != 1 {
		t.Error("the push did not go to the registry behind the mirrors")
	}
}

func TestBadRegistriesConf(t *testing.T) {
	conf := writeFile(t, filepath.Join(t.TempDir(), "registries.conf"), "\n[[registry]]\n")
	c := newClient(t, Options{RegistriesConf: conf})
	_, err := c.Resolve(t.Context(), reference.Reference{Domain: "h.example", Repository: "a"}, "")
	if err == nil || !strings.HasPrefix(err.Error(), "reading "+conf+":2: ") {
		t.Error(err)
	}
}

func TestClean(t *testing.T) {
	if got := clean("a\n\x1b[31mb\x00 \xff" + strings.Repeat("x", 400)); strings.ContainsAny(got, "\n\x1b\x00\xff") || len(got) > 310 {
		t.Errorf("clean gave %q", got)
	}
}

func TestAnswersOfOthers(t *testing.T) {
	website := httptest.NewServer(http.NotFoundHandler())
	defer website.Close()
	c := newClient(t, Options{Retries: -1})
	host := strings.TrimPrefix(website.URL, "http://")
	_, err := c.Resolve(t.Context(), mustParse(t, host+"/a:1"), "")
	if err == nil || err.Error() != "finding "+host+"/a:1: this is no registry: it has no /v2/; check the host and port" {
		t.Errorf("a web site gave %v", err)
	}
	r := newRegistry(t)
	r.setFault(func(w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path == "/v2/" {
			return false
		}
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached\nyour limit"}]}`)
		return true
	})
	_, err = c.Resolve(t.Context(), r.ref(t, "a:1"), "")
	want := fmt.Sprintf("finding %s/a:1: the registry answered 429 Too Many Requests (TOOMANYREQUESTS You have reached your limit); "+
		"try again later; some registries allow more after podman login %s or docker login %s", r.host, r.host, r.host)
	if err == nil || err.Error() != want {
		t.Errorf("a limit gave\n%v, want\n%s", err, want)
	}
	silent := newRegistry(t)
	silent.setFault(func(_ http.ResponseWriter, req *http.Request) bool {
		<-req.Context().Done()
		return true
	})
	c = newClient(t, Options{Retries: -1, StallTimeout: 50 * time.Millisecond})
	if _, err = c.Resolve(t.Context(), silent.ref(t, "a:1"), ""); err == nil || !strings.HasSuffix(err.Error(), "sent nothing for 50ms") {
		t.Errorf("a silent registry gave %v", err)
	}
}

// TestResumesOverHTTP2 breaks streams of a connection that goes on, which HTTP/2 reports in its own way.
func TestResumesOverHTTP2(t *testing.T) {
	inner := registry.New(quiet())
	var mu sync.Mutex
	var ranges, protocols []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
			mu.Lock()
			ranges, protocols = append(ranges, req.Header.Get("Range")), append(protocols, req.Proto)
			mu.Unlock()
			w = &cutter{ResponseWriter: w, left: 700_000}
		}
		inner.ServeHTTP(w, req)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	no := false
	c := newClient(t, Options{TLSVerify: &no})
	img := testImage(t, randomBytes(t, 2<<20))
	ref := mustParse(t, strings.TrimPrefix(server.URL, "https://")+"/a:1")
	push(t, c, img, ref)
	store := newMemoryStore()
	p, err := c.Pull(t.Context(), ref, store, "")
	if err != nil {
		t.Fatal(err)
	}
	checkPulled(t, store, p, img)
	if len(ranges) != 4 || ranges[2] != "bytes=700000-2097151" || protocols[0] != "HTTP/2.0" {
		t.Errorf("the ranges were %q over %q", ranges, protocols)
	}
}
