package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imgbuild/imgbuild/internal/atomicfile"
	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// WriteOptions says how a container is written.
type WriteOptions struct {
	Name     string        // that the archive gives the container if the reference has no REF; may be empty
	Tags     []string      // further names in a docker-archive, in this order after the first
	Packed   bool          // whether layers stay compressed as they are in a docker-archive, which otherwise holds them plain
	Progress func(n int64) // counts bytes written; nil counts nothing
}

// Write writes a container as what a reference with the transport oci, oci-archive, docker-archive or dir names. A file is replaced; a directory that is
// an OCI image layout gets one container more, or another in the place of one with the same name; skopeo's directory is replaced. Every
// layer's digest is checked; a wrong one is [manifest.ErrInvalid].
func Write(ctx context.Context, ref reference.Reference, img v1.Image, opts WriteOptions) error {
	name := ref.Image
	if name == "" {
		name = opts.Name
	}
	p, err := takeApart(img)
	if err != nil {
		return fmt.Errorf("writing %s: %w", ref, err)
	}
	p.count = opts.Progress
	switch ref.Transport {
	case reference.OCI, reference.OCIArchive:
		var desc v1.Descriptor
		if desc, err = p.toOCI(name); err != nil {
			break
		}
		if ref.Transport == reference.OCI {
			err = p.writeLayoutDir(ctx, ref.Path, desc)
		} else {
			err = writeTar(ref.Path, func(w *tarWriter) error { return p.writeLayout(ctx, w, desc) })
		}
	case reference.DockerArchive:
		err = writeTar(ref.Path, func(w *tarWriter) error {
			return p.writeDockerTar(ctx, w, append([]string{name}, opts.Tags...), opts.Packed)
		})
	case reference.Dir:
		err = p.writeSkopeoDir(ctx, ref.Path)
	default:
		err = fmt.Errorf("%q is not the transport of an archive", ref.Transport)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", ref, err)
	}
	return nil
}

// parts is an image taken apart for writing.
type parts struct {
	raw, rawConfig []byte
	manifest       *v1.Manifest
	config         *v1.ConfigFile
	layers         []v1.Layer
	count          func(int64)
}

func takeApart(img v1.Image) (*parts, error) {
	var p parts
	var err error
	if p.raw, err = img.RawManifest(); err != nil {
		return nil, err
	}
	if p.manifest, err = manifest.Parse(p.raw); err != nil {
		return nil, err
	}
	if p.rawConfig, err = img.RawConfigFile(); err != nil {
		return nil, err
	}
	if p.config, err = manifest.ParseConfig(p.rawConfig); err != nil {
		return nil, err
	}
	if p.layers, err = img.Layers(); err != nil {
		return nil, err
	}
	if len(p.layers) != len(p.manifest.Layers) || len(p.layers) != len(p.config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%w: it has %d layers where its manifest names %d and its config %d",
			manifest.ErrInvalid, len(p.layers), len(p.manifest.Layers), len(p.config.RootFS.DiffIDs))
	}
	return &p, nil
}

// toOCI brings the manifest into the OCI's form and returns its descriptor for an index.
func (p *parts) toOCI(name string) (v1.Descriptor, error) {
	var err error
	if p.raw, err = manifest.ToOCI(p.raw); err != nil {
		return v1.Descriptor{}, err
	}
	if p.manifest, err = manifest.Parse(p.raw); err != nil {
		return v1.Descriptor{}, err
	}
	sum, size, err := v1.SHA256(bytes.NewReader(p.raw))
	if err != nil {
		return v1.Descriptor{}, err
	}
	desc := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: sum, Size: size}
	if name != "" {
		desc.Annotations = map[string]string{ispec.AnnotationRefName: name}
	}
	return desc, nil
}

// blob is one file to be written.
type blob struct {
	desc v1.Descriptor
	open func() (io.ReadCloser, error)
}

func bytesBlob(desc v1.Descriptor, data []byte) blob {
	return blob{desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

// blobs returns config and layers, each once, in the order of their digests.
func (p *parts) blobs() []blob {
	all := []blob{bytesBlob(p.manifest.Config, p.rawConfig)}
	for i, desc := range p.manifest.Layers {
		all = append(all, blob{desc, p.layers[i].Compressed})
	}
	return sortBlobs(all)
}

// layoutBlobs adds the manifest.
func (p *parts) layoutBlobs(desc v1.Descriptor) []blob {
	return sortBlobs(append(p.blobs(), bytesBlob(desc, p.raw)))
}

func sortBlobs(all []blob) []blob {
	slices.SortStableFunc(all, func(a, b blob) int { return strings.Compare(a.desc.Digest.Hex, b.desc.Digest.Hex) })
	return slices.CompactFunc(all, func(a, b blob) bool { return a.desc.Digest == b.desc.Digest })
}

// copy writes a blob and checks its digest and size.
func (p *parts) copy(ctx context.Context, w io.Writer, b blob) error {
	if err := manifest.CheckDigest(b.desc.Digest); err != nil {
		return err
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close()
	verifier := digest.Digest(b.desc.Digest.String()).Verifier()
	n, err := io.Copy(io.MultiWriter(w, verifier, counter(p.count)), io.LimitReader(ctxio.Reader(ctx, r), b.desc.Size+1))
	if err != nil {
		return fmt.Errorf("copying blob %s: %w", b.desc.Digest, err)
	}
	if n != b.desc.Size || !verifier.Verified() {
		return fmt.Errorf("copying blob %s: %w: its content is another than the digest and the size of %d bytes say", b.desc.Digest, manifest.ErrInvalid, b.desc.Size)
	}
	return nil
}

type counter func(int64)

func (c counter) Write(p []byte) (int, error) {
	if c != nil {
		c(int64(len(p)))
	}
	return len(p), nil
}

func indexText(descs []v1.Descriptor) ([]byte, error) {
	return json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: descs})
}

// writeTar makes a tar file that appears when it is complete.
func writeTar(name string, fill func(*tarWriter) error) error {
	return atomicfile.Write(name, 0o644, func(f *os.File) error {
		w := &tarWriter{f: f}
		if err := fill(w); err != nil {
			return err
		}
		_, err := f.Write(make([]byte, 2*tarBlock)) // the end, POSIX.1-2017 pax, ustar interchange format
		return err
	})
}

const tarBlock = 512

// tarWriter writes members of which the size may become known only when they are written: it goes back to their header then.
type tarWriter struct{ f *os.File }

func (w *tarWriter) header(name string, dir bool, size int64) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatGNU}
	if dir {
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
	}
	var block bytes.Buffer
	if err := tar.NewWriter(&block).WriteHeader(h); err != nil {
		return err
	}
	if block.Len() != tarBlock {
		return fmt.Errorf("writing %s: its header has %d bytes", name, block.Len())
	}
	_, err := w.f.Write(block.Bytes())
	return err
}

func (w *tarWriter) dir(name string) error { return w.header(name+"/", true, 0) }

func (w *tarWriter) file(name string, fill func(io.Writer) error) error {
	at, err := w.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if err := w.header(name, false, 0); err != nil {
		return err
	}
	if err := fill(w.f); err != nil {
		return err
	}
	end, err := w.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	size := end - at - tarBlock
	if _, err := w.f.Write(make([]byte, -size&(tarBlock-1))); err != nil {
		return err
	}
	next, err := w.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := w.f.Seek(at, io.SeekStart); err != nil {
		return err
	}
	if err := w.header(name, false, size); err != nil {
		return err
	}
	_, err = w.f.Seek(next, io.SeekStart)
	return err
}

// sink takes the files of an archive that is new: a tar or a directory.
type sink interface {
	dir(name string) error
	file(name string, fill func(io.Writer) error) error
}

func putBytes(s sink, name string, data []byte) error {
	return s.file(name, func(w io.Writer) error { _, err := w.Write(data); return err })
}

// newDir is a sink into a directory that is being staged. Its files are synced; directories are the caller's to sync.
type newDir string

func (d newDir) dir(name string) error { return os.Mkdir(filepath.Join(string(d), name), 0o755) }

func (d newDir) file(name string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// writeLayout writes an OCI image layout with one container.
func (p *parts) writeLayout(ctx context.Context, s sink, desc v1.Descriptor) error {
	if err := errors.Join(s.dir("blobs"), s.dir("blobs/sha256")); err != nil {
		return err
	}
	for _, b := range p.layoutBlobs(desc) {
		if err := s.file("blobs/sha256/"+b.desc.Digest.Hex, func(w io.Writer) error { return p.copy(ctx, w, b) }); err != nil {
			return err
		}
	}
	index, err := indexText([]v1.Descriptor{desc})
	if err != nil {
		return err
	}
	layout, err := json.Marshal(ispec.ImageLayout{Version: ispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	if err := putBytes(s, ispec.ImageIndexFile, index); err != nil {
		return err
	}
	return putBytes(s, ispec.ImageLayoutFile, layout)
}

// writeDockerTar writes the form that docker load and podman load have read since Docker 1.10: layers, plain or as they are packed, named by their diff ids.
func (p *parts) writeDockerTar(ctx context.Context, w *tarWriter, names []string, packed bool) error {
	sum := p.manifest.Config.Digest
	entry := dockerImage{Config: sum.Hex + ".json", RepoTags: []string{}, Layers: []string{}}
	for _, name := range names {
		ref, err := reference.Parse(name)
		if err != nil || ref.Transport != reference.None || ref.Digest != "" {
			continue // docker knows no names of another kind
		}
		if tag := ref.WithDefaultTag().String(); !slices.Contains(entry.RepoTags, tag) {
			entry.RepoTags = append(entry.RepoTags, tag)
		}
	}
	written := map[v1.Hash]bool{}
	for i, layer := range p.layers {
		diffID := p.config.RootFS.DiffIDs[i]
		if err := manifest.CheckDigest(diffID); err != nil {
			return err
		}
		file := diffID.Hex + ".tar"
		entry.Layers = append(entry.Layers, file)
		if written[diffID] {
			continue
		}
		written[diffID] = true
		err := w.file(file, func(out io.Writer) error {
			if packed && p.manifest.Layers[i].MediaType != types.OCILayerZStd { // which docker load does not read
				return p.copy(ctx, out, blob{p.manifest.Layers[i], layer.Compressed})
			}
			return p.copyPlain(ctx, out, layer, diffID)
		})
		if err != nil {
			return err
		}
	}
	if err := putBytes(w, entry.Config, p.rawConfig); err != nil {
		return err
	}
	list, err := json.Marshal([]dockerImage{entry})
	if err != nil {
		return err
	}
	return putBytes(w, dockerFile, list)
}

// copyPlain writes a layer's tar and checks its diff id.
func (p *parts) copyPlain(ctx context.Context, w io.Writer, layer v1.Layer, diffID v1.Hash) error {
	r, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	verifier := digest.Digest(diffID.String()).Verifier()
	if _, err := io.Copy(io.MultiWriter(w, verifier, counter(p.count)), ctxio.Reader(ctx, r)); err != nil {
		return fmt.Errorf("copying layer %s: %w", diffID, err)
	}
	if !verifier.Verified() {
		return fmt.Errorf("copying layer %s: %w: its content has another digest", diffID, manifest.ErrInvalid)
	}
	return nil
}

// stage fills a new directory beside dir and gives it the name dir when it is complete. What was there, which the caller has looked at, goes.
func stage(dir string, fill func(tmp newDir) error) error {
	parent := filepath.Dir(dir)
	tmp, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+".imgbuild-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := fill(newDir(tmp)); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(tmp); err != nil {
		return err
	}
	err = os.Rename(tmp, dir)
	if errors.Is(err, fs.ErrExist) { // ENOTEMPTY: swap by way of a third name
		old := tmp + ".old"
		if err = os.Rename(dir, old); err == nil {
			defer os.RemoveAll(old)
			err = os.Rename(tmp, dir)
		}
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(parent)
}

func (p *parts) writeSkopeoDir(ctx context.Context, dir string) error {
	dir = filepath.Clean(dir)
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		version, err := os.ReadFile(filepath.Join(dir, dirVersion))
		if err != nil || !strings.HasPrefix(string(version), "Directory Transport Version: ") {
			return fmt.Errorf("%s holds something else; give another directory: %w", dir, fs.ErrExist)
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return stage(dir, func(tmp newDir) error {
		for _, b := range p.blobs() {
			if err := tmp.file(b.desc.Digest.Hex, func(w io.Writer) error { return p.copy(ctx, w, b) }); err != nil {
				return err
			}
		}
		if err := putBytes(tmp, dirManifest, p.raw); err != nil {
			return err
		}
		return putBytes(tmp, dirVersion, []byte(dirVersionText))
	})
}
