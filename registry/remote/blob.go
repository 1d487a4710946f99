package remote

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/internal/progress"
)

// copyBuffer is how many bytes of a blob are handled at a time.
const copyBuffer = 256 << 10

// download is one blob on its way.
type download struct {
	client  *Client
	session *session
	desc    v1.Descriptor
	part    Partial
	task    progress.Task

	hash    hash.Hash
	offset  int64 // bytes kept and hashed
	fetched int64 // bytes that came over the network
	buffer  []byte
	foreign bool // the registry doesn't have it but the descriptor's URLs may
}

// fetchBlob brings one blob into the store and returns how many bytes came over the network: none if it was there.
func (c *Client) fetchBlob(ctx context.Context, s *session, desc v1.Descriptor, into BlobStore) (fetched int64, err error) {
	part, err := openPartial(ctx, into, desc)
	if part == nil || err != nil {
		return 0, err
	}
	defer part.Close()
	task := c.opts.Progress.Start("pulling "+short(desc.Digest), desc.Size, progress.Bytes)
	d := download{client: c, session: s, desc: desc, part: part, task: task}
	err = d.run(ctx)
	if err == nil {
		if err = part.Commit(); err != nil {
			err = &localError{fmt.Errorf("writing blob %s: %w", short(desc.Digest), err)}
		}
	}
	task.Done(err)
	return d.fetched, err
}

// run fetches until the part is complete and has the right digest. It goes on where the part ends, and counts only those
// failures in a row between which the blob did not get on.
func (d *download) run(ctx context.Context) error {
	if err := d.rehash(ctx); err != nil {
		return err
	}
	d.buffer = make([]byte, copyBuffer)
	resumed := d.offset > 0
	for failures := 0; ; {
		before := d.offset
		var err error
		if d.offset < d.desc.Size || d.desc.Size == 0 {
			err = d.attempt(ctx)
		}
		if err == nil {
			err = d.verify()
			if err == nil {
				return nil
			}
			if truncateErr := d.restart(); truncateErr != nil {
				return truncateErr
			}
			// What was kept from another time may be what is wrong, so one more try is fair.
			if !resumed {
				return err
			}
			resumed, failures = false, 0
			d.client.log.Info("fetching anew", "blob", d.desc.Digest.String(), "because", err.Error())
			continue
		}
		if d.offset-before >= min(1<<20, d.desc.Size/100+1) {
			failures = 0
		}
		failures++
		if err := d.client.pause(ctx, "blob "+short(d.desc.Digest), failures, err); err != nil {
			return err
		}
		resumed = resumed || d.offset > 0
	}
}

// rehash brings the hash to where the kept part ends.
func (d *download) rehash(ctx context.Context) error {
	algorithm := digest.Algorithm(d.desc.Digest.Algorithm)
	if !algorithm.Available() {
		return fmt.Errorf("%w: the digest %s has an unknown algorithm", ErrInvalid, d.desc.Digest)
	}
	d.hash = algorithm.Hash()
	size := d.part.Size()
	if size > d.desc.Size {
		return d.restart()
	}
	in := io.NewSectionReader(d.part, 0, size)
	buffer := make([]byte, copyBuffer)
	for d.offset < size {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(in, buffer[:min(int64(len(buffer)), size-d.offset)])
		if err != nil {
			return &localError{fmt.Errorf("reading the kept part of blob %s: %w", short(d.desc.Digest), err)}
		}
		d.hash.Write(buffer[:n])
		d.offset += int64(n)
	}
	if size > 0 {
		d.client.log.Info("going on with a blob", "blob", d.desc.Digest.String(), "have", size, "of", d.desc.Size)
		d.task.Add(size)
	}
	return nil
}

// restart forgets everything that has arrived.
func (d *download) restart() error {
	d.hash.Reset()
	d.task.Add(-d.offset)
	d.offset = 0
	if err := d.part.Truncate(0); err != nil {
		return &localError{fmt.Errorf("writing blob %s: %w", short(d.desc.Digest), err)}
	}
	return nil
}

func (d *download) verify() error {
	got := digest.NewDigestFromBytes(digest.Algorithm(d.desc.Digest.Algorithm), d.hash.Sum(nil))
	if got.String() != d.desc.Digest.String() {
		return fmt.Errorf("%w: the blob's digest is %s and not %s", ErrInvalid, got, d.desc.Digest)
	}
	return nil
}

// attempt makes one request for the bytes that are missing and appends what comes.
func (d *download) attempt(ctx context.Context) error {
	resp, err := d.get(ctx)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable:
		return d.restart() // verify sees that bytes are missing, and run begins anew
	case http.StatusPartialContent:
		if err := checkContentRange(resp.Header.Get("Content-Range"), d.offset, d.desc.Size); err != nil {
			d.client.log.Info("fetching anew", "blob", d.desc.Digest.String(), "because", err.Error())
			return d.restart()
		}
	case http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != d.desc.Size {
			return fmt.Errorf("%w: the registry has %d bytes and the manifest says %d", ErrInvalid, resp.ContentLength, d.desc.Size)
		}
		// A registry that knows no ranges sends it all again. What is kept is skipped and not dropped, so that a line that
		// breaks again loses nothing.
		if _, err := io.CopyN(io.Discard, resp.Body, d.offset); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return d.append(ctx, resp.Body)
}

// append writes what comes from in to the part, and counts and hashes it.
func (d *download) append(ctx context.Context, in io.Reader) error {
	for {
		n, err := in.Read(d.buffer)
		if d.offset+int64(n) > d.desc.Size {
			return fmt.Errorf("%w: the registry sends more than the %d bytes that the manifest says", ErrInvalid, d.desc.Size)
		}
		if n > 0 {
			if _, err := d.part.Write(d.buffer[:n]); err != nil {
				return &localError{fmt.Errorf("writing blob %s: %w", short(d.desc.Digest), err)}
			}
			d.hash.Write(d.buffer[:n])
			d.offset += int64(n)
			d.fetched += int64(n)
			d.task.Add(int64(n))
		}
		switch {
		case err == io.EOF && d.offset < d.desc.Size:
			return io.ErrUnexpectedEOF
		case err == io.EOF:
			return nil
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
	}
}

// get asks the registry for the blob from offset on, or the addresses of the descriptor if the registry doesn't keep the
// blob: a layer that may not be distributed.
func (d *download) get(ctx context.Context) (*http.Response, error) {
	r := request{method: http.MethodGet, url: d.session.url("blobs/%s", d.desc.Digest), ok: []int{http.StatusOK}}
	if d.offset > 0 {
		// The range is closed: some servers answer 416 to an open one.
		r.header = map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", d.offset, d.desc.Size-1)}
		r.ok = []int{http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable}
	}
	if !d.foreign {
		resp, err := d.session.do(ctx, r)
		var status *statusError
		if err == nil || len(d.desc.URLs) == 0 || !errors.As(err, &status) || status.status != http.StatusNotFound {
			return resp, err
		}
		d.foreign = true
	}
	var last error
	for _, address := range d.desc.URLs {
		if err := checkForeign(address); err != nil {
			last = err
			continue
		}
		base, err := d.client.transport("", false)
		if err != nil {
			return nil, err
		}
		r.url = address
		r.client = &http.Client{Transport: &guard{inner: base}, CheckRedirect: checkRedirect}
		resp, err := d.session.do(ctx, r)
		if err == nil {
			return resp, nil
		}
		last = err
	}
	return nil, last
}

// checkForeign refuses addresses in a manifest that lead into this machine or its network.
func checkForeign(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%w: the layer's address %q isn't an https one", ErrInvalid, clean(address))
	}
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	if isLoopback(u.Host) || err == nil && (addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsUnspecified()) {
		return fmt.Errorf("%w: the layer's address %q is one of this network", ErrInvalid, clean(address))
	}
	return nil
}

// checkContentRange checks that a 206 answer begins at offset: "bytes N-M/SIZE", where SIZE may be "*" (RFC 9110, section
// 14.4).
func checkContentRange(value string, offset, size int64) error {
	text, ok := strings.CutPrefix(value, "bytes ")
	extent, total, hasTotal := strings.Cut(text, "/")
	first, _, hasLast := strings.Cut(extent, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	if !ok || !hasTotal || !hasLast || err != nil || start != offset {
		return fmt.Errorf("%w: the registry sends the range %q where bytes from %d on were asked for", ErrInvalid, clean(value), offset)
	}
	if n, err := strconv.ParseInt(total, 10, 64); err == nil && n != size {
		return fmt.Errorf("%w: the registry has %d bytes and the manifest says %d", ErrInvalid, n, size)
	}
	return nil
}
