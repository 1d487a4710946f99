package archive

import (
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/registry/manifest"
)

// What skopeo's directories have besides blobs.
const (
	dirManifest = "manifest.json"
	dirVersion  = "version"
	// dirVersionText is the content of the version file; 1.1 means that blobs are named by their digest's hexadecimal digits alone.
	dirVersionText = "Directory Transport Version: 1.1\n"
)

// openDir opens skopeo's directory.
func (a *Archive) openDir() error {
	raw, err := readSmall(a.in, dirManifest, manifest.MaxManifestSize)
	if err != nil {
		return missing(err, dirManifest, "directory of skopeo's")
	}
	m, err := manifest.Parse(raw)
	if err != nil {
		return err
	}
	open := func(desc v1.Descriptor) (manifest.Blob, error) {
		if err := manifest.CheckDigest(desc.Digest); err != nil {
			return nil, err
		}
		return openSized(a.in, desc.Digest.Hex, desc)
	}
	blob, err := open(m.Config)
	if err != nil {
		return err
	}
	config, err := readChecked(blob, m.Config, manifest.MaxConfigSize)
	if err != nil {
		return err
	}
	a.Image, err = manifest.New(raw, config, open)
	return err
}

// readChecked reads a small blob, checks its digest and closes it.
func readChecked(blob manifest.Blob, desc v1.Descriptor, limit int64) ([]byte, error) {
	defer blob.Close()
	if blob.Size() > limit {
		return nil, fmt.Errorf("reading blob %s: %w: it has %d bytes, more than the %d allowed", desc.Digest, manifest.ErrInvalid, blob.Size(), limit)
	}
	data, err := io.ReadAll(io.NewSectionReader(blob, 0, blob.Size()))
	if err != nil {
		return nil, fmt.Errorf("reading blob %s: %w", desc.Digest, err)
	}
	if digest.FromBytes(data).String() != desc.Digest.String() {
		return nil, fmt.Errorf("reading blob %s: %w: its content has another digest", desc.Digest, manifest.ErrInvalid)
	}
	return data, nil
}
