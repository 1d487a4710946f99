package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/internal/progress"
)

const (
	// wholeBlob is up to which size, in bytes, a blob is sent in the request that also finishes it.
	wholeBlob = 1 << 20
	// fallbackChunk is the size of the first pieces for a registry that refuses a whole blob with 413, or a line that breaks.
	fallbackChunk = 16 << 20
	// smallestChunk is the size below which pieces don't get smaller when they keep breaking.
	smallestChunk = 1 << 20
)

// upload is one blob on its way to the registry.
type upload struct {
	client  *Client
	session *session
	desc    v1.Descriptor
	open    func() (io.ReadCloser, error)
	from    []string // repositories of the same registry that may have it

	location string // where the upload goes on; empty before it has begun
	offset   int64  // bytes that the registry has confirmed
	chunk    int64  // bytes per request, 0 for all
	minChunk int64  // what the registry wants at least
	careful  bool   // each piece goes over a connection of its own
	task     progress.Task
}

// run makes the registry have the blob: it has it, or it links it from another repository, or it is sent.
func (u *upload) run(ctx context.Context) error {
	has, err := u.client.has(ctx, u.session, u.desc)
	if err != nil || has {
		return err
	}
	for _, repository := range u.from {
		mounted, err := u.mount(ctx, repository)
		if err != nil {
			return err
		}
		if mounted {
			u.client.log.Debug("linked a blob", "blob", u.desc.Digest.String(), "from", repository)
			return nil
		}
	}
	u.chunk = u.client.opts.ChunkSize
	u.task = u.client.taskFor(u.desc)
	err = u.send(ctx)
	u.task.Done(err)
	return err
}

// mount asks the registry to link the blob from another of its repositories (distribution specification, "Mounting a blob
// from another repository"). A registry that does not do so begins an upload instead, which is kept for later.
func (u *upload) mount(ctx context.Context, repository string) (bool, error) {
	if u.location != "" {
		return false, nil
	}
	query := url.Values{"mount": {u.desc.Digest.String()}, "from": {repository}}
	var mounted bool
	err := u.client.retry(ctx, "blob "+short(u.desc.Digest), func() error {
		resp, err := u.session.do(ctx, request{method: http.MethodPost, url: u.session.url("blobs/uploads/") + "?" + query.Encode(),
			body: http.NoBody, ok: []int{http.StatusCreated, http.StatusAccepted}})
		var status *statusError
		if errors.As(err, &status) && !isTemporary(status.status) {
			return nil // The other repository may be closed to us; sending will tell.
		}
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		mounted = resp.StatusCode == http.StatusCreated
		if !mounted {
			return u.follow(resp)
		}
		return nil
	})
	return mounted, err
}

// send transfers the blob and goes on after a failure where the registry says, or anew where it doesn't. Failures count
// that follow each other without anything new at the registry.
func (u *upload) send(ctx context.Context) error {
	best := int64(0)
	for failures := 0; ; {
		err := u.try(ctx)
		if err == nil {
			return nil
		}
		var local *localError
		if errors.As(err, &local) {
			return err
		}
		var status *statusError
		if errors.As(err, &status) {
			switch {
			case status.status == http.StatusRequestEntityTooLarge && u.smaller():
				u.forget()
				continue
			case status.status == http.StatusRequestedRangeNotSatisfiable || status.status == http.StatusNotFound && u.location != "" ||
				status.has("BLOB_UPLOAD_UNKNOWN") || status.has("BLOB_UPLOAD_INVALID"):
				u.forget()
				err = fmt.Errorf("%w: %w", errUploadLost, err)
			}
		}
		known := u.offset
		if u.location != "" {
			u.ask(ctx)
		}
		if u.offset > best {
			best, failures = u.offset, 0
		}
		failures++
		if failures > 1 {
			u.takeSmallSteps()
		}
		if errors.Is(err, errUploadLost) && failures <= u.client.opts.Retries && ctx.Err() == nil {
			u.client.log.Info("sending anew", "blob", u.desc.Digest.String(), "lost", known, "because", plainText(err))
			continue
		}
		if err := u.client.pause(ctx, "blob "+short(u.desc.Digest), failures, err); err != nil {
			return err
		}
	}
}

// takeSmallSteps makes the next try send smaller pieces, each over a connection of its own. It helps over a line that keeps
// breaking: a registry may keep what was confirmed, but the widespread one forgets the whole upload when a piece breaks.
// And some proxies just hang up on a request that is too large or takes too long.
func (u *upload) takeSmallSteps() {
	u.careful = u.smaller() || u.careful
}

// smaller halves the pieces and reports whether they could be smaller still.
func (u *upload) smaller() bool {
	next := min(fallbackChunk, u.desc.Size/2)
	if u.chunk > 0 {
		next = min(next, u.chunk/2)
	}
	next = max(next, smallestChunk, u.minChunk)
	if next >= u.desc.Size || u.chunk > 0 && next >= u.chunk {
		return false
	}
	u.chunk = next
	return true
}

// errUploadLost says that the registry doesn't know the upload any more.
var errUploadLost = errors.New("the upload was lost")

// forget makes the next try begin a new upload.
func (u *upload) forget() {
	u.task.Add(-u.offset)
	u.location, u.offset = "", 0
}

// try sends what is missing and finishes the upload.
func (u *upload) try(ctx context.Context) error {
	if u.location == "" {
		resp, err := u.session.do(ctx, request{method: http.MethodPost, url: u.session.url("blobs/uploads/"), body: http.NoBody,
			ok: []int{http.StatusAccepted}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := u.follow(resp); err != nil {
			return err
		}
		if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && u.chunk > 0 && n <= 1<<30 {
			u.minChunk = n
			u.chunk = max(u.chunk, n)
		}
	}
	blob, err := u.open()
	if err != nil {
		return &localError{fmt.Errorf("reading the blob: %w", err)}
	}
	defer blob.Close()
	if err := skip(blob, u.offset); err != nil {
		return &localError{fmt.Errorf("reading the blob: %w", err)}
	}
	if u.offset == 0 && u.desc.Size <= wholeBlob && (u.chunk == 0 || u.desc.Size <= u.chunk) {
		return u.finish(ctx, blob, u.desc.Size)
	}
	for u.offset < u.desc.Size {
		if err := u.patch(ctx, blob); err != nil {
			return err
		}
	}
	return u.finish(ctx, nil, 0)
}

// patch sends one piece. The range goes along only where there is more than one piece, since some registries want a whole
// blob without it.
func (u *upload) patch(ctx context.Context, blob io.Reader) error {
	size := u.desc.Size - u.offset
	if u.chunk > 0 {
		size = min(size, u.chunk)
	}
	header := map[string]string{"Content-Type": "application/octet-stream"}
	if u.offset > 0 || size < u.desc.Size {
		header["Content-Range"] = fmt.Sprintf("%d-%d", u.offset, u.offset+size-1)
	}
	source := &sourceReader{in: io.LimitReader(blob, size), task: u.task}
	resp, err := u.session.do(ctx, request{method: http.MethodPatch, url: u.location, header: header, body: source, size: size,
		fresh: u.careful, ok: []int{http.StatusAccepted, http.StatusNoContent, http.StatusCreated}})
	sent, readErr := source.outcome()
	if readErr != nil {
		return readErr
	}
	if err != nil {
		u.task.Add(-sent)
		return err
	}
	defer resp.Body.Close()
	u.offset += size
	return u.follow(resp)
}

// finish ends the upload and names its digest; the registry verifies it. The last piece or the whole blob may go along.
func (u *upload) finish(ctx context.Context, blob io.Reader, size int64) error {
	to, err := url.Parse(u.location)
	if err != nil {
		return err
	}
	query := to.Query()
	query.Set("digest", u.desc.Digest.String())
	to.RawQuery = query.Encode()
	r := request{method: http.MethodPut, url: to.String(), body: http.NoBody, ok: []int{http.StatusCreated, http.StatusNoContent, http.StatusAccepted}}
	source := &sourceReader{in: ended{}, task: u.task}
	if blob != nil {
		source.in = io.LimitReader(blob, size)
		r.body, r.size = source, size
		r.header = map[string]string{"Content-Type": "application/octet-stream"}
	}
	resp, err := u.session.do(ctx, r)
	sent, readErr := source.outcome()
	if readErr != nil {
		return readErr
	}
	if err != nil {
		u.task.Add(-sent)
		var status *statusError
		if blob == nil && !errors.As(err, &status) {
			// The answer was lost: the blob may be there, and the next try sends anew if not.
			if has, hasErr := u.client.has(ctx, u.session, u.desc); hasErr == nil && has {
				return nil
			}
		}
		return err
	}
	return resp.Body.Close()
}

// ask finds out how much of a broken upload the registry has; if it can't tell, the upload begins anew.
func (u *upload) ask(ctx context.Context) {
	resp, err := u.session.do(ctx, request{method: http.MethodGet, url: u.location, ok: []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted}})
	if err != nil {
		u.forget()
		return
	}
	defer resp.Body.Close()
	_, last, found := strings.Cut(resp.Header.Get("Range"), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !found || err != nil || n < 0 || n >= u.desc.Size || u.follow(resp) != nil {
		u.forget()
		return
	}
	has := n + 1
	if n == 0 {
		has = 0 // "0-0" is also what registries say of an empty upload.
	}
	u.task.Add(has - u.offset)
	u.offset = has
}

// follow notes where the upload goes on.
func (u *upload) follow(resp *http.Response) error {
	location := resp.Header.Get("Location")
	if location == "" {
		if u.location != "" {
			return nil
		}
		return fmt.Errorf("%w: the registry began an upload but doesn't say where", ErrInvalid)
	}
	base := resp.Request.URL
	to, err := base.Parse(location)
	if err != nil {
		return fmt.Errorf("%w: the registry's address for the upload: %s", ErrInvalid, clean(err.Error()))
	}
	u.location = to.String()
	return nil
}

// skip moves to an offset, by seeking where the blob can.
func skip(blob io.Reader, offset int64) error {
	if offset == 0 {
		return nil
	}
	if s, ok := blob.(io.Seeker); ok {
		_, err := s.Seek(offset, io.SeekStart)
		return err
	}
	_, err := io.CopyN(io.Discard, blob, offset)
	return err
}

// sourceReader tells a blob that can't be read apart from a line that breaks. The HTTP library may go on reading for a
// moment after a request has failed, so what it counts is locked.
type sourceReader struct {
	in   io.Reader
	task progress.Task

	mu   sync.Mutex
	sent int64
	err  error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.in.Read(p)
	s.sent += int64(n)
	s.task.Add(int64(n))
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// outcome ends the reading and gives what was sent and the error of the blob.
func (s *sourceReader) outcome() (sent int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in = ended{}
	if s.err != nil {
		return s.sent, &localError{fmt.Errorf("reading the blob: %w", s.err)}
	}
	return s.sent, nil
}

// ended is a reader after its request.
type ended struct{}

func (ended) Read([]byte) (int, error) { return 0, io.EOF }
