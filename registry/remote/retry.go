package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	// maxDelay bounds the pause between two attempts.
	maxDelay = 30 * time.Second
	// maxRetryAfter is how long a registry may ask us to wait; beyond it the user should know.
	maxRetryAfter = 5 * time.Minute
	// shownDelay is from which pause on the user is told why nothing goes on.
	shownDelay = time.Second
	// refusedRetries is how often a host is tried again where nothing listens.
	refusedRetries = 2
)

// retry calls fn until it succeeds, fails for good, or the retries are used up.
func (c *Client) retry(ctx context.Context, what string, fn func() error) error {
	for failures := 0; ; {
		err := fn()
		if err == nil {
			return nil
		}
		failures++
		if err := c.pause(ctx, what, failures, err); err != nil {
			return err
		}
	}
}

// pause waits before the next attempt after so many failures in a row; the last was err. It returns an error if there shall
// be no next attempt: err, or why ctx ended.
func (c *Client) pause(ctx context.Context, what string, failures int, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	limit := c.opts.Retries
	if errors.Is(err, syscall.ECONNREFUSED) {
		limit = min(limit, refusedRetries)
	}
	if !temporary(err) || failures > limit {
		return err
	}
	delay := c.opts.RetryDelay << min(failures-1, 16)
	delay = min(delay, maxDelay)
	delay = delay/2 + rand.N(delay/2+1)
	var status *statusError
	if errors.As(err, &status) && status.retryAfter > 0 {
		if status.retryAfter > maxRetryAfter {
			return err
		}
		delay = status.retryAfter
	}
	c.log.Info("trying again", "what", what, "after", delay.Round(time.Millisecond), "failures", failures, "because", plainText(err))
	if delay >= shownDelay {
		c.opts.Progress.Note(fmt.Sprintf("%s: %s; trying again in %s", what, plainText(err), delay.Round(time.Second)))
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// isTemporary reports whether an HTTP status may be another one soon.
func isTemporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return status >= 520 && status <= 524 // what Cloudflare says when the registry behind it doesn't answer
}

// temporary reports whether an attempt that ended with err may succeed later.
func temporary(err error) bool {
	var status *statusError
	var registry *transport.Error
	var broken *brokenError
	var proxy *proxyError
	var dns *net.DNSError
	var network net.Error
	var address *url.Error
	switch {
	case errors.As(err, &status):
		return isTemporary(status.status)
	case errors.As(err, &registry):
		return isTemporary(registry.StatusCode)
	case errors.As(err, &broken):
		return true
	case errors.As(err, &proxy):
		return isTemporary(proxy.status)
	case isTrust(err), errors.Is(err, http.ErrSchemeMismatch), errors.Is(err, errPlainHTTP), isAlert(err):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.Is(err, errStalled), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return true
	case errors.As(err, &network):
		return true
	case errors.As(err, &address):
		return address.Op != "parse"
	}
	return false
}

// retryAfter reads the header of that name: seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if when, err := http.ParseTime(value); err == nil {
		return max(0, when.Sub(now))
	}
	return 0
}
