package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sort"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/spool"
)

// RoomError says that there is too little room to keep uncompressed bytes.
type RoomError struct {
	Dir        string // where they would have been
	Need, Free int64  // bytes
}

// Error implements error.
func (e *RoomError) Error() string {
	return fmt.Sprintf("keeping %d uncompressed bytes of layers: %s has %d bytes free, and half of that is left to others", e.Need, e.Dir, e.Free)
}

// Kept are uncompressed bytes of blobs that several readers share; see [KeepContents].
type Kept struct{ list []*keptBytes }

// KeepContents lets all who read a tree's contents from now on share the work of decompressing them: the bytes of blobs are kept in files without a
// name from when they are first read until the result is closed. Contents are decompressed again if they are read after that. If ctx ends,
// readers get its cause.
//
// The files lie where those of [ReadOptions.Spool] do. They may take half of what is free there; otherwise nothing is kept, and the error is a
// [*RoomError].
func KeepContents(ctx context.Context, t *Tree) (*Kept, error) {
	sizes := map[*BlobSource]int64{} // up to which byte their tar is read
	err := t.Walk(func(_ string, n *Node) error {
		c, ok := n.Content.(*BlobContent)
		if !ok || c.Source.Algorithm == None || c.Source.staged != nil || c.Source.spooled() != nil {
			return nil
		}
		for _, run := range c.runs() {
			sizes[c.Source] = max(sizes[c.Source], run.Offset+run.Length)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	k := &Kept{}
	var need int64
	for source, size := range sizes {
		b, err := newKeptBytes(ctx, source)
		if err != nil {
			return nil, errors.Join(err, k.Close())
		}
		k.list = append(k.list, b)
		need += size
		if err := b.reserve(size, need); err != nil {
			return nil, errors.Join(err, k.Close())
		}
	}
	for _, b := range k.list {
		b.source.setSpool(b)
	}
	return k, nil
}

// Close gives up what is kept. Nobody may be reading.
func (k *Kept) Close() error {
	var errs []error
	for _, b := range k.list {
		b.source.setSpool(nil)
		errs = append(errs, b.close())
	}
	k.list = nil
	return errors.Join(errs...)
}

// keptBytes is the uncompressed bytes of one blob in a file without a name. What is not there yet is decompressed when it is read, each byte once: by frames or,
// where the blob has none, from its beginning on. It may be read by several at once.
type keptBytes struct {
	source *BlobSource
	file   *os.File
	ctx    context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup // goroutines that fill the file

	mu sync.Mutex
	// Of a blob with frames:
	frames  map[int]*keptFrame // that somebody has asked for
	decoder *pieceDecoder
	buffers chan *buffer
	// Of others:
	begun  bool
	filled int64      // bytes from the beginning that are there
	more   *sync.Cond // says that filled or err has changed
	err    error      // what has ended the filling; io.EOF after all bytes
}

// keptFrame is a frame that is in the file as soon as done is closed, unless there is an error.
type keptFrame struct {
	done chan struct{}
	err  error
}

// newKeptBytes begins with an empty file.
func newKeptBytes(ctx context.Context, s *BlobSource) (*keptBytes, error) {
	f, err := spool.New(s.SpoolDir)
	if err != nil {
		return nil, fmt.Errorf("keeping the uncompressed bytes of layer %s: %w", s.Digest, err)
	}
	k := &keptBytes{source: s, file: f, frames: map[int]*keptFrame{}}
	k.more = sync.NewCond(&k.mu)
	k.ctx, k.stop = context.WithCancel(ctx)
	if s.Frames == nil {
		return k, nil
	}
	jobs := runtime.GOMAXPROCS(0) + 1
	k.buffers = newBufferPool(jobs)
	if k.decoder, err = newPieceDecoder(s.Algorithm, jobs); err != nil {
		k.stop()
		return nil, errors.Join(err, f.Close())
	}
	return k, nil
}

// reserve takes the room that the bytes need, so that no reader comes to an end of the disk. It refuses to take more than half of it for all.
func (k *keptBytes) reserve(size, all int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(k.file.Fd()), &st); err != nil {
		return fmt.Errorf("looking how much room there is for the uncompressed bytes of layers: %w", os.NewSyscallError("fstatfs", err))
	}
	free := int64(st.Bavail)*st.Frsize + all - size // what was taken for the others
	room := &RoomError{Dir: k.file.Name(), Need: all, Free: free}
	if all > free/2 {
		return room
	}
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Fallocate(int(k.file.Fd()), 0, 0, size) })
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return room
	}
	return nil // where a file system can't do it, the room is hoped for
}

// close ends the filling and closes the file.
func (k *keptBytes) close() error {
	k.stop()
	k.work.Wait()
	if k.decoder != nil {
		k.decoder.close()
	}
	return k.file.Close()
}

// ReadAt implements io.ReaderAt.
func (k *keptBytes) ReadAt(p []byte, off int64) (int, error) {
	if err := k.await(off, off+int64(len(p))); err != nil {
		return 0, err
	}
	return k.file.ReadAt(p, off)
}

// await returns when the bytes from off to end are in the file.
func (k *keptBytes) await(off, end int64) error {
	frames := k.source.Frames
	if frames == nil {
		return k.awaitStream(end)
	}
	if last := frames[len(frames)-1]; last.TarOffset+last.TarSize < end {
		return io.ErrUnexpectedEOF
	}
	for i := sort.Search(len(frames), func(i int) bool { return frames[i].TarOffset+frames[i].TarSize > off }); i < len(frames) && frames[i].TarOffset < end; i++ {
		if err := k.awaitFrame(i); err != nil {
			return err
		}
	}
	return nil
}

// awaitFrame decompresses a frame unless somebody has. When frames are asked for one after the other, the next one is decompressed ahead.
func (k *keptBytes) awaitFrame(i int) error {
	f, fresh := k.frame(i)
	if !fresh {
		<-f.done
		return f.err
	}
	k.mu.Lock()
	_, sequence := k.frames[i-1]
	k.mu.Unlock()
	if sequence && i+1 < len(k.source.Frames) {
		if next, fresh := k.frame(i + 1); fresh {
			k.work.Go(func() { k.fillFrame(i+1, next) })
		}
	}
	k.fillFrame(i, f)
	return f.err
}

// frame returns a frame, and whether the caller must fill it.
func (k *keptBytes) frame(i int) (*keptFrame, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.frames[i]
	if f != nil {
		return f, false
	}
	f = &keptFrame{done: make(chan struct{})}
	k.frames[i] = f
	return f, true
}

func (k *keptBytes) fillFrame(i int, f *keptFrame) {
	defer close(f.done)
	at := k.source.Frames[i]
	b, err := getBuffer(k.ctx, k.buffers, at.TarSize)
	if err != nil {
		f.err = err
		return
	}
	c := k.source.decodeFrame(k.decoder, at, b)
	defer c.release()
	if f.err = c.err; f.err == nil {
		_, f.err = k.file.WriteAt(c.data, at.TarOffset)
	}
}

// awaitStream returns when the bytes up to end are there.
func (k *keptBytes) awaitStream(end int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.begun {
		k.begun = true
		k.work.Go(k.fillStream)
	}
	for k.filled < end && k.err == nil {
		k.more.Wait()
	}
	switch {
	case k.filled >= end:
		return nil
	case k.err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return k.err
}

func (k *keptBytes) fillStream() {
	in := k.source.streamTar(k.ctx, nil, k)
	defer in.close()
	err := in.finish()
	switch {
	case err == nil:
		err = io.EOF
	case k.ctx.Err() != nil:
		err = context.Cause(k.ctx)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
	k.more.Broadcast()
}

// Write implements io.Writer for the tar of a blob without frames.
func (k *keptBytes) Write(p []byte) (int, error) {
	n, err := k.file.WriteAt(p, k.filled) // nobody else changes it
	k.mu.Lock()
	defer k.mu.Unlock()
	k.filled += int64(n)
	k.more.Broadcast()
	return n, err
}
