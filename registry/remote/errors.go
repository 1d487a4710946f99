package remote

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/registriesconf"
)

var (
	// ErrNotFound is in the error when a registry has no such repository, tag, manifest or blob.
	ErrNotFound = errors.New("not found")
	// ErrDenied is in the error when a registry wants another log-in.
	ErrDenied = errors.New("access denied")
	// ErrInvalid is in the error when what a registry sends breaks its format or is not what its digest says.
	ErrInvalid = manifest.ErrInvalid
	// ErrPlatform is in the error when an index has no container for the platform.
	ErrPlatform = errors.New("no container for the platform")
)

// Error is what went wrong with a registry, in one line and without secrets.
type Error struct {
	// Doing says what was tried: pulling, pushing, listing the tags of ...
	Doing string
	// Name is the container or repository.
	Name string
	// Why says what happened.
	Why string
	// Hint says what to do about it; it may be empty.
	Hint string

	kind, cause error
}

func (e *Error) Error() string {
	text := e.Doing + " " + e.Name + ": " + e.Why
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Unwrap gives ErrNotFound, ErrDenied or ErrInvalid if it is one of these, and the cause.
func (e *Error) Unwrap() []error {
	var list []error
	for _, err := range []error{e.kind, e.cause} {
		if err != nil {
			list = append(list, err)
		}
	}
	return list
}

// partError says which blob of a container failed.
type partError struct {
	part string
	err  error
}

func (e *partError) Error() string { return e.part + ": " + e.err.Error() }
func (e *partError) Unwrap() error { return e.err }

// statusError is an answer with a status that is an error.
type statusError struct {
	status     int
	method     string
	address    string // without the query, which may hold a signature
	codes      []string
	message    string
	retryAfter time.Duration
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the registry answered %d %s", e.status, http.StatusText(e.status))
	if e.message != "" {
		text += " (" + e.message + ")"
	}
	return text
}

func (e *statusError) has(code string) bool {
	for _, c := range e.codes {
		if c == code {
			return true
		}
	}
	return false
}

// proxyError is a proxy that doesn't lead where it should.
type proxyError struct {
	host   string // without user and password
	status int
}

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy %s answered %d %s", e.host, e.status, http.StatusText(e.status))
}

// newStatusError reads an answer that is an error and closes it. The body is bounded; registries send
// {"errors": [{"code", "message"}]} (distribution specification, "Error codes").
func newStatusError(resp *http.Response) *statusError {
	defer resp.Body.Close()
	e := &statusError{status: resp.StatusCode, retryAfter: retryAfter(resp.Header, time.Now())}
	if resp.Request != nil {
		e.method = resp.Request.Method
		e.address = address(resp.Request.URL)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return e
	}
	var body struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(data, &body) != nil {
		if resp.Header.Get("Content-Type") == "text/plain" || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain;") {
			e.message = clean(string(data))
		}
		return e
	}
	var messages []string
	for _, one := range body.Errors {
		e.codes = append(e.codes, one.Code)
		messages = append(messages, strings.TrimSpace(one.Code+" "+one.Message))
	}
	e.message = clean(strings.Join(messages, ", "))
	return e
}

// address writes a URL without user, query and fragment.
func address(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// clean makes one line of printable text with a bounded length of what a server said.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	return s
}

// plainText is the text of an error of a transfer without addresses' queries, which may hold signatures, and without what a
// token server said.
func plainText(err error) string {
	var part *partError
	if errors.As(err, &part) {
		return part.part + ": " + plainText(part.err)
	}
	var status *statusError
	if errors.As(err, &status) {
		return status.Error()
	}
	var registry *transport.Error
	if errors.As(err, &registry) {
		return clean(registry.Error())
	}
	var u *url.Error
	if errors.As(err, &u) {
		where := ""
		if parsed, parseErr := url.Parse(u.URL); parseErr == nil {
			where = strings.ToUpper(u.Op) + " " + address(parsed) + ": "
		}
		return where + plainText(u.Err)
	}
	text, _, _ := strings.Cut(err.Error(), "no token in bearer response:")
	if text == "" {
		text = "the token server answered without a token"
	}
	return clean(text)
}

// explain turns the failure of a transfer with e into an *Error.
func (c *Client) explain(doing string, e registriesconf.Endpoint, err error) error {
	var done *Error
	if err == nil || errors.As(err, &done) {
		return err
	}
	host := e.Reference.Domain
	out := &Error{Doing: doing, Name: nameOf(e), Why: plainText(err), cause: err}
	var status *statusError
	var registry *transport.Error
	code := 0
	if errors.As(err, &status) {
		code = status.status
	} else if errors.As(err, &registry) {
		code = registry.StatusCode
	}
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		out.kind = ErrDenied
		out.Why, out.Hint = c.denied(e, status, code)
	case code == http.StatusNotFound:
		out.kind = ErrNotFound
	case code == http.StatusTooManyRequests:
		out.Hint = fmt.Sprintf("try again later; some registries allow more after podman login %s or docker login %s", host, host)
	case code != 0 && !isTrust(err):
	case errors.Is(err, ErrInvalid):
		out.kind = ErrInvalid
	default:
		c.explainLine(out, host, err)
	}
	return out
}

// explainLine explains why host can't be spoken to.
func (c *Client) explainLine(out *Error, host string, err error) {
	var dns *net.DNSError
	var proxy *proxyError
	var certificate x509.CertificateInvalidError
	switch {
	case errors.As(err, &certificate) && certificate.Reason == x509.Expired:
		out.Why = trustText(err)
		out.Hint = "check the clock of this machine, or use --tls-verify=false"
	case isTrust(err):
		out.Why = trustText(err)
		out.Hint = fmt.Sprintf("put the certificate of its authority into /etc/containers/certs.d/%s/ca.crt, or use --tls-verify=false", host)
	case isAlert(err):
		out.Hint = fmt.Sprintf("if it wants a client certificate, put it into /etc/containers/certs.d/%s/ as client.cert and client.key", host)
	case errors.Is(err, http.ErrSchemeMismatch) || errors.Is(err, errPlainHTTP):
		out.Why = host + " speaks plain http"
		out.Hint = "allow it with --tls-verify=false or with insecure = true in registries.conf"
	case errors.Is(err, errNoRegistry):
		out.Hint = "check the host and port"
	case errors.As(err, &proxy):
		out.Hint = "check HTTPS_PROXY and NO_PROXY"
	case errors.As(err, &dns) && dns.IsNotFound:
		out.Why = fmt.Sprintf("there is no host %q", dns.Name)
		out.Hint = "check the name, or set HTTPS_PROXY if a proxy leads out of this network"
	case errors.Is(err, syscall.ECONNREFUSED):
		out.Why = "nothing listens at " + host
	case errors.Is(err, errStalled):
		out.Why = fmt.Sprintf("%s sent nothing for %s", host, c.opts.StallTimeout)
	}
}

// isAlert reports whether the other side ended the TLS handshake.
func isAlert(err error) bool {
	var alert tls.AlertError
	return errors.As(err, &alert)
}

// denied explains a 401 or 403.
func (c *Client) denied(e registriesconf.Endpoint, status *statusError, code int) (why, hint string) {
	host := e.Reference.Domain
	why = fmt.Sprintf("%s denies access (%d %s)", host, code, http.StatusText(code))
	if status != nil && status.message != "" {
		why = fmt.Sprintf("%s denies access (%d %s)", host, code, status.message)
	}
	keys, err := c.keys()
	if err != nil {
		return why, ""
	}
	for _, problem := range keys.Problems() {
		why += "; " + clean(problem.Error())
	}
	c.mu.Lock()
	source := c.sources[e.Reference.Name()]
	c.mu.Unlock()
	if source != "" {
		return fmt.Sprintf("%s with the credentials of %s", why, source),
			fmt.Sprintf("check the name, or log in anew with podman login %s or docker login %s", host, host)
	}
	return why, fmt.Sprintf("check the name, or log in with podman login %s or docker login %s", host, host)
}

func nameOf(e registriesconf.Endpoint) string {
	r := e.Reference
	r.Transport = reference.None
	return r.String()
}

// isTrust reports whether err says that a certificate is not trusted.
func isTrust(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

func trustText(err error) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return clean(authority.Error())
	case errors.As(err, &host):
		return clean(host.Error())
	case errors.As(err, &invalid):
		return clean(invalid.Error())
	}
	return clean(plainText(err))
}

// joined is several places' failures in one line.
type joined []error

func (j joined) Error() string {
	var texts []string
	for _, err := range j {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; then ")
}

func (j joined) Unwrap() []error { return j }
