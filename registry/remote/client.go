// Package remote pulls containers from registries and pushes them there.
//
// It speaks the OCI distribution specification 1.1 on top of go-containerregistry's names and authentication, and adds
// what a long transfer over a bad line needs: a blob goes on where it broke off, within one run and after a kill, servers
// that ask for patience get it, and every byte is checked against size and digest while it is read. Mirrors, blocked and
// insecure registries come from registries.conf, certificates from certs.d, and secrets from the files and helpers of
// docker login and podman login.
package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/registry/credentials"
	"github.com/imgbuild/imgbuild/registry/registriesconf"
)

// Options says how to talk to registries. The zero value is what a user wants who says nothing.
type Options struct {
	// Jobs is how many blobs are transferred at once, by all calls of a Client together; 0 means 4.
	Jobs int
	// Retries is how often a request is tried again that failed in a way that may pass, or a blob that did not get on;
	// 0 means 5, less than 0 never.
	Retries int
	// RetryDelay is the pause before the first retry. It doubles each time up to 30 s, and half of it is chance;
	// 0 means 1 s.
	RetryDelay time.Duration
	// StallTimeout ends an attempt in which nothing moves for so long; 0 means 60 s.
	StallTimeout time.Duration
	// ChunkSize splits uploads into requests of so many bytes, for registries behind a proxy that limits requests; 0 sends
	// a blob at once, and in chunks only to a registry that refuses that with 413.
	ChunkSize int64
	// TLSVerify is --tls-verify: false allows certificates that nobody vouches for, and plain http where a registry speaks
	// nothing else; true forbids both even where registries.conf allows them; nil leaves it to registries.conf. A registry on
	// loopback may always speak plain http.
	TLSVerify *bool
	// CertDirs replaces the usual certs.d directories: each holds *.crt, *.cert and *.key, or does so in HOST[:PORT].
	CertDirs []string
	// AuthFiles are login files to look into before the usual ones.
	AuthFiles []string
	// RegistriesConf is read in place of the usual main registries.conf.
	RegistriesConf string
	// Platform is what is pulled from an index if a call names nothing else: OS/ARCH[/VARIANT] or ARCH; empty means linux on
	// this machine's architecture.
	Platform string
	// Getenv is os.Getenv if nil.
	Getenv func(string) string
	// Progress shows one task for each blob; nil shows nothing.
	Progress progress.Reporter
	// Log takes retries, mirrors that failed, and which login file answered; never a secret. nil means no log.
	Log *slog.Logger
}

// Client pulls and pushes. It may be used by several goroutines at once.
type Client struct {
	opts Options
	log  *slog.Logger
	conf func() (*registriesconf.Config, error)
	keys func() (*credentials.Keychain, error)
	jobs chan struct{}

	mu         sync.Mutex
	transports map[transportKey]*http.Transport
	sessions   map[sessionKey]*session
	sources    map[string]string // repository with domain -> where its credential came from
}

// New returns a client. The files that Options names are read when they are first needed.
func New(opts Options) (*Client, error) {
	if opts.Jobs < 0 || opts.ChunkSize < 0 || opts.RetryDelay < 0 || opts.StallTimeout < 0 {
		return nil, errors.New("making a registry client: jobs, chunk size and times can't be negative")
	}
	if opts.Platform != "" {
		if _, err := ParsePlatform(opts.Platform); err != nil {
			return nil, err
		}
	}
	if opts.Jobs == 0 {
		opts.Jobs = 4
	}
	if opts.Retries == 0 {
		opts.Retries = 5
	}
	if opts.RetryDelay == 0 {
		opts.RetryDelay = time.Second
	}
	if opts.StallTimeout == 0 {
		opts.StallTimeout = time.Minute
	}
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	if opts.Progress == nil {
		opts.Progress = progress.Discard
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{opts: opts, log: opts.Log, jobs: make(chan struct{}, opts.Jobs),
		transports: map[transportKey]*http.Transport{}, sessions: map[sessionKey]*session{}, sources: map[string]string{}}
	user := userns.Real()
	c.conf = sync.OnceValues(func() (*registriesconf.Config, error) {
		return registriesconf.Load(registriesconf.Options{Getenv: opts.Getenv, File: opts.RegistriesConf, Rootless: user.Rootless})
	})
	c.keys = sync.OnceValues(func() (*credentials.Keychain, error) {
		conf, err := c.conf()
		if err != nil {
			return nil, err
		}
		return credentials.New(credentials.Options{Getenv: opts.Getenv, Files: opts.AuthFiles, Helpers: conf.CredentialHelpers,
			UID: user.UID, Log: opts.Log}), nil
	})
	return c, nil
}

// Close gives back idle connections.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
	return nil
}

// RegistriesConf returns what registries.conf says.
func (c *Client) RegistriesConf() (*registriesconf.Config, error) { return c.conf() }

// slot waits until one of the Jobs is free; the caller gives it back by calling release.
func (c *Client) slot(ctx context.Context) (release func(), err error) {
	select {
	case c.jobs <- struct{}{}:
		return func() { <-c.jobs }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// insecure says whether e may be spoken to without verified TLS.
func (c *Client) insecure(e registriesconf.Endpoint) bool {
	if c.opts.TLSVerify != nil {
		return !*c.opts.TLSVerify
	}
	return e.Insecure
}

// short names a digest in progress and logs, as Docker and podman do.
func short(digest fmt.Stringer) string {
	text := digest.String()
	return text[:min(len(text), len("sha256:")+12)]
}
