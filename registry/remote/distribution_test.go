package remote

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// distribution is the registry that most of the world runs, as Debian packages it, on a port of loopback.
type distribution struct {
	host string
	cert string // the authority's certificate, empty without TLS
}

type distributionOptions struct {
	tls      bool
	password string // of the user "me", empty for none
}

func startDistribution(t *testing.T, opts distributionOptions) distribution {
	t.Helper()
	program := testenv.NeedProgram(t, "docker-registry")
	dir := t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := distribution{host: listener.Addr().String()}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp:\n  addr: %s\n", dir+"/data", d.host)
	scheme := "http"
	if opts.tls {
		scheme = "https"
		d.cert = filepath.Join(dir, "cert.pem")
		key := filepath.Join(dir, "key.pem")
		selfSigned(t, d.cert, key)
		config += fmt.Sprintf("  tls: {certificate: %s, key: %s}\n", d.cert, key)
	}
	if opts.password != "" {
		htpasswd := testenv.NeedProgram(t, "htpasswd")
		lines := testenv.Run(t, htpasswd, "-nbB", "me", opts.password)
		writeFile(t, dir+"/htpasswd", lines)
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}\n", dir+"/htpasswd")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "serve", writeFile(t, dir+"/config.yml", config))
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // It was killed.
		if t.Failed() {
			t.Logf("docker-registry said:\n%.4000s", output.String())
		}
	})
	waitFor(t, scheme, d.host)
	return d
}

func waitFor(t *testing.T, scheme, host string) {
	t.Helper()
	for range 200 {
		conn, err := net.DialTimeout("tcp", host, time.Second)
		if err == nil {
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s://%s does not answer", scheme, host)
}

// selfSigned writes a certificate for 127.0.0.1 that nobody vouches for, and its key.
func selfSigned(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}, IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	writeFile(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})))
}

func TestDistribution(t *testing.T) {
	d := startDistribution(t, distributionOptions{tls: true, password: "s3cret"})
	certs := t.TempDir()
	pemText, err := os.ReadFile(d.cert)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(certs, d.host, "ca.crt"), string(pemText))
	c := newClient(t, Options{CertDirs: []string{certs}, AuthFiles: []string{loginFile(t, d.host, "me", "s3cret")}})
	base := randomBytes(t, 20<<20)
	img := testImage(t, base, randomBytes(t, 100), nil)
	ref := mustParse(t, d.host+"/a/b:1")
	digest := push(t, c, img, ref)
	store := newMemoryStore()
	p, err := c.Pull(t.Context(), ref, store, "")
	if err != nil {
		t.Fatal(err)
	}
	checkPulled(t, store, p, img)
	if p.Manifest.Digest != digest {
		t.Errorf("pulled %s, pushed %s", p.Manifest.Digest, digest)
	}
	// The same layers in another repository are linked, not sent.
	log, text := logged()
	second := newClient(t, Options{CertDirs: []string{certs}, AuthFiles: []string{loginFile(t, d.host, "me", "s3cret")}, Log: log})
	to := mustParse(t, d.host+"/c:2")
	if _, err := second.Push(t.Context(), img, to, PushOptions{MountFrom: []reference.Reference{ref}}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(text(), "linked a blob"); got != 4 {
		t.Errorf("%d blobs were linked, want 4:\n%s", got, text())
	}
	if tags, err := c.Tags(t.Context(), ref); err != nil || fmt.Sprint(tags) != "[1]" {
		t.Errorf("tags %q, %v", tags, err)
	}
	_, err = c.Resolve(t.Context(), mustParse(t, d.host+"/a/b:2"), "")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `no tag "2" in "a/b"; there is 1`) {
		t.Errorf("a missing tag gave %v", err)
	}
	_, err = newClient(t, Options{CertDirs: []string{certs}}).Push(t.Context(), img, ref, PushOptions{})
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "podman login "+d.host) {
		t.Errorf("a push without login gave %v", err)
	}
	_, err = newClient(t, Options{CertDirs: []string{certs}, AuthFiles: []string{loginFile(t, d.host, "me", "wr0ng")}}).Resolve(t.Context(), ref, "")
	if !errors.Is(err, ErrDenied) || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("a wrong password gave %v", err)
	}
	if _, err = newClient(t, Options{}).Resolve(t.Context(), ref, ""); err == nil || !strings.Contains(err.Error(), "certs.d") {
		t.Errorf("an unknown certificate gave %v", err)
	}
}

// badLine passes TCP connections on and breaks each after so many bytes in one direction.
type badLine struct {
	host string
	down int64 // bytes to the client
	up   int64 // bytes to the server

	cuts atomic.Int64
}

func newBadLine(t *testing.T, to string, down, up int64) *badLine {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &badLine{host: listener.Addr().String(), down: down, up: up}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go l.pass(client, to)
		}
	}()
	return l
}

func (l *badLine) pass(client net.Conn, to string) {
	server, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return
	}
	var once sync.Once
	end := func() { client.Close(); server.Close() }
	copyUpTo := func(w, r net.Conn, limit int64) {
		defer once.Do(end)
		if limit == 0 {
			io.Copy(w, r)
			return
		}
		if n, _ := io.CopyN(w, r, limit); n == limit {
			l.cuts.Add(1)
		}
	}
	go copyUpTo(client, server, l.down)
	copyUpTo(server, client, l.up)
}

// TestBadLine pushes to and pulls from a real registry over a line that breaks every few megabytes.
func TestBadLine(t *testing.T) {
	d := startDistribution(t, distributionOptions{})
	img := testImage(t, randomBytes(t, 40<<20), randomBytes(t, 3<<20), randomBytes(t, 100))
	up := newBadLine(t, d.host, 0, 10<<20)
	c := newClient(t, Options{})
	push(t, c, img, mustParse(t, up.host+"/a:1"))
	if up.cuts.Load() == 0 {
		t.Error("the line to the registry never broke")
	}
	down := newBadLine(t, d.host, 5<<20, 0)
	store := newMemoryStore()
	p, err := c.Pull(t.Context(), mustParse(t, down.host+"/a:1"), store, "")
	if err != nil {
		t.Fatal(err)
	}
	checkPulled(t, store, p, img)
	if down.cuts.Load() < 7 || p.Fetched != p.Size() {
		t.Errorf("after %d cuts %d bytes were fetched, want %d", down.cuts.Load(), p.Fetched, p.Size())
	}
}

// TestPlainHTTP speaks to a registry at an address that is no loopback, which needs leave.
func TestPlainHTTP(t *testing.T) {
	r := newRegistry(t)
	host := newLineOn(t, net.JoinHostPort(outerAddress(t), "0"), r.host)
	img := testImage(t, randomBytes(t, 10))
	ref := mustParse(t, host+"/a:1")
	_, err := newClient(t, Options{}).Push(t.Context(), img, ref, PushOptions{})
	want := "pushing " + host + "/a:1: " + host + " speaks plain http; allow it with --tls-verify=false or with insecure = true in registries.conf"
	if err == nil || err.Error() != want {
		t.Errorf("plain http without leave gave\n%v, want\n%s", err, want)
	}
	yes, no := true, false
	push(t, newClient(t, Options{TLSVerify: &no}), img, ref)
	conf := writeFile(t, filepath.Join(t.TempDir(), "registries.conf"), fmt.Sprintf("[[registry]]\nlocation=%q\ninsecure=true\n", host))
	push(t, newClient(t, Options{RegistriesConf: conf}), img, ref)
	if _, err := newClient(t, Options{RegistriesConf: conf, TLSVerify: &yes}).Push(t.Context(), img, ref, PushOptions{}); err == nil {
		t.Error("--tls-verify=true does not win over registries.conf")
	}
}

// outerAddress is an IPv4 address of this machine that isn't loopback.
func outerAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	testenv.Missing(t, "an IPv4 address of this machine besides loopback")
	return ""
}

// newLineOn passes connections at an address on and returns the address with its port.
func newLineOn(t *testing.T, address, to string) string {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		testenv.Missing(t, "listening at %s: %v", address, err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &badLine{}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go l.pass(client, to)
		}
	}()
	return listener.Addr().String()
}
