package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/imgbuild/imgbuild/registry/registriesconf"
)

const userAgent = "imgbuild"

// maxRedirects is how many redirects one request follows.
const maxRedirects = 10

var (
	errStalled   = errors.New("nothing moved for too long")
	errPlainHTTP = errors.New("plain http is not allowed")
	// errNoRegistry says that a host answers but isn't a registry.
	errNoRegistry = errors.New("this is no registry: it has no /v2/")
)

// session is an authenticated way to one repository of one host.
type session struct {
	mu       sync.Mutex
	ready    bool
	endpoint registriesconf.Endpoint
	host     string // as in URLs
	repo     name.Repository
	client   *http.Client
	stall    time.Duration
}

type sessionKey struct {
	host, repository, scopes string
	insecure                 bool
}

type transportKey struct {
	host     string
	insecure bool
}

// session returns the session for a place and scopes such as "repository:a/b:pull", making it if it is the first.
// A handshake that failed is tried again by the next call.
func (c *Client) session(ctx context.Context, e registriesconf.Endpoint, actions string, mountFrom ...string) (*session, error) {
	insecure := c.insecure(e)
	repository := e.Reference.Repository
	scopes := []string{fmt.Sprintf("repository:%s:%s", repository, actions)}
	for _, from := range mountFrom {
		scopes = append(scopes, fmt.Sprintf("repository:%s:pull", from))
	}
	key := sessionKey{e.Reference.Domain, repository, strings.Join(scopes, " "), insecure}
	c.mu.Lock()
	s := c.sessions[key]
	if s == nil {
		s = &session{endpoint: e, stall: c.opts.StallTimeout}
		c.sessions[key] = s
	}
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		return s, nil
	}
	if err := c.handshake(ctx, s, insecure, scopes); err != nil {
		return nil, err
	}
	s.ready = true
	return s, nil
}

// handshake finds out how the registry wants to be spoken to, and gets a token if it wants one.
func (c *Client) handshake(ctx context.Context, s *session, insecure bool, scopes []string) error {
	domain := s.endpoint.Reference.Domain
	plain := insecure || isLoopback(domain)
	var opts []name.Option
	if plain {
		opts = append(opts, name.Insecure)
	}
	registry, err := name.NewRegistry(domain, opts...)
	if err != nil {
		return err
	}
	keys, err := c.keys()
	if err != nil {
		return err
	}
	credential, err := keys.Lookup(ctx, domain, s.endpoint.Reference.Repository)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.sources[s.endpoint.Reference.Name()] = credential.Source
	c.mu.Unlock()
	base, err := c.transport(domain, insecure)
	if err != nil {
		return err
	}
	guarded := &guard{inner: transport.NewUserAgent(base, userAgent), insecure: insecure, loopback: plain}
	var authenticated http.RoundTripper
	err = c.retry(ctx, "reaching "+domain, func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, c.opts.StallTimeout, errStalled)
		defer cancel()
		authenticated, err = transport.NewWithContext(ctx, registry, credential.Authenticator(), guarded, scopes)
		if err != nil && context.Cause(ctx) == errStalled {
			return errStalled
		}
		return err
	})
	if err != nil {
		return notARegistry(err)
	}
	s.host = registry.RegistryStr()
	s.repo = registry.Repo(s.endpoint.Reference.Repository)
	s.client = &http.Client{Transport: authenticated, CheckRedirect: checkRedirect}
	return nil
}

// notARegistry names what a host is that does not know the address that every registry has.
func notARegistry(err error) error {
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound && answer.Request != nil && answer.Request.URL.Path == "/v2/" {
		return errNoRegistry
	}
	return err
}

// transport returns the connections to one host, whose TLS depends on the host's certificates; an empty host is for
// addresses that are no registry.
func (c *Client) transport(host string, insecure bool) (*http.Transport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := transportKey{host, insecure}
	if t, ok := c.transports[key]; ok {
		return t, nil
	}
	dirs := c.certDirs(host)
	if host == "" {
		dirs = nil
	}
	conf, err := tlsConfig(host, dirs, insecure)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   15 * time.Second,
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   c.opts.Jobs + 1,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     true,
		// A blob's digest is that of the bytes as they are stored, so nothing may be unpacked on the way.
		DisableCompression: true,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			return &proxyError{host: proxy.Host, status: resp.StatusCode}
		},
	}
	c.transports[key] = t
	return t, nil
}

// checkRedirect bounds redirects and keeps the registry's token from every other host, ports included.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	if req.URL.Host != via[0].URL.Host {
		req.Header.Del("Authorization")
	}
	return nil
}

// guard refuses plain http where it isn't allowed, whatever a redirect or a registry in a private network would have, and
// turns answers that mean "later" into errors that know how much later.
type guard struct {
	inner              http.RoundTripper
	insecure, loopback bool
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" && !g.insecure && (!g.loopback || !isLoopback(req.URL.Host)) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, errPlainHTTP
	}
	if body, ok := req.Body.(*watchedUpload); ok && body.sent.Swap(true) {
		return nil, errTokenRanOut
	}
	resp, err := g.inner.RoundTrip(req)
	if err != nil || !isTemporary(resp.StatusCode) {
		return resp, err
	}
	return nil, newStatusError(resp)
}

// isLoopback reports whether HOST[:PORT] is this machine by its address or name.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// url builds the address of a path below the repository.
func (s *session) url(format string, args ...any) string {
	u := url.URL{Scheme: "https", Host: s.host, Path: "/v2/" + s.repo.RepositoryStr() + "/" + fmt.Sprintf(format, args...)}
	return u.String()
}

// request is one attempt of one HTTP request.
type request struct {
	method, url string
	header      map[string]string
	body        io.Reader // nil for none
	size        int64     // of body
	ok          []int     // the statuses that are no error
	// fresh closes the connection after the answer.
	fresh bool
	// client replaces the session's, for addresses outside of the registry.
	client *http.Client
}

// do sends r. The answer's body must be closed. A token that ran out between its renewal by another request and this one is
// renewed once more.
func (s *session) do(ctx context.Context, r request) (*http.Response, error) {
	resp, err := s.doOnce(ctx, r)
	var status *statusError
	if r.size == 0 && r.client == nil && errors.As(err, &status) && status.status == http.StatusUnauthorized {
		return s.doOnce(ctx, r)
	}
	return resp, err
}

// doOnce sends r. The attempt ends when nothing moves for the stall timeout; after the last
// byte of a request's body the registry gets ten times as long, because it may hash and move the blob then.
func (s *session) doOnce(ctx context.Context, r request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	dog := &watchdog{limit: s.stall, cancel: cancel}
	dog.timer = time.AfterFunc(s.stall, func() { cancel(errStalled) })
	var body io.Reader
	if r.body != nil {
		body = &watchedUpload{in: r.body, dog: dog}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, body)
	if err != nil {
		dog.stop()
		return nil, err
	}
	if r.body != nil {
		req.ContentLength = r.size
		if r.size == 0 {
			req.Body = http.NoBody
		}
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	req.Close = r.fresh
	client := s.client
	if r.client != nil {
		client = r.client
	}
	resp, err := client.Do(req)
	if err != nil {
		if context.Cause(ctx) == errStalled {
			err = errStalled
		}
		dog.stop()
		return nil, err
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, ctx: ctx, dog: dog}
	for _, status := range r.ok {
		if resp.StatusCode == status {
			return resp, nil
		}
	}
	defer resp.Body.Close()
	return nil, newStatusError(resp)
}

// watchdog ends an attempt in which nothing moves.
type watchdog struct {
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func (d *watchdog) stop() {
	d.timer.Stop()
	d.cancel(nil)
}

type watchedBody struct {
	io.ReadCloser
	ctx context.Context
	dog *watchdog
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.dog.timer.Reset(b.dog.limit)
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case context.Cause(b.ctx) == errStalled:
		return n, errStalled
	}
	return n, &brokenError{err}
}

// brokenError is an answer that breaks off, by whatever the HTTP library says of it: HTTP/2 has errors of its own there.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return "the answer broke off: " + e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.dog.stop()
	return err
}

// errTokenRanOut ends a request that is sent again with a new token after its body was read, in part at least: what is left of the body is not
// what the registry expects.
var errTokenRanOut = errors.New("the registry's token ran out while a blob was sent")

type watchedUpload struct {
	in   io.Reader
	dog  *watchdog
	sent atomic.Bool // a request has it
}

// Close does nothing. With it, the HTTP library keeps the body as it is, so that guard knows it.
func (u *watchedUpload) Close() error { return nil }

func (u *watchedUpload) Read(p []byte) (int, error) {
	n, err := u.in.Read(p)
	if err == nil {
		u.dog.timer.Reset(u.dog.limit)
	} else {
		u.dog.timer.Reset(10 * u.dog.limit)
	}
	return n, err
}
