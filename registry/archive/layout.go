package archive

import (
	"encoding/json"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// containerdName is the annotation in which docker save and containerd keep the full name; theirs for ref.name holds the tag alone.
const containerdName = "io.containerd.image.name"

// maxDepth is how deep indexes may lie in each other.
const maxDepth = 4

// layoutIndex reads the index of an OCI image layout.
func layoutIndex(in files) ([]v1.Descriptor, error) {
	if _, err := readSmall(in, ispec.ImageLayoutFile, manifest.MaxManifestSize); err != nil {
		return nil, missing(err, ispec.ImageLayoutFile, "OCI image layout")
	}
	raw, err := readSmall(in, ispec.ImageIndexFile, manifest.MaxManifestSize)
	if err != nil {
		return nil, missing(err, ispec.ImageIndexFile, "OCI image layout")
	}
	return parseIndex(raw)
}

func parseIndex(raw []byte) ([]v1.Descriptor, error) {
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("reading an image index: %w: %w", manifest.ErrInvalid, err)
	}
	return index.Manifests, nil
}

func descriptorName(desc v1.Descriptor) string {
	if full := desc.Annotations[containerdName]; full != "" {
		return full
	}
	return desc.Annotations[ispec.AnnotationRefName]
}

func layoutNames(in files) ([]string, error) {
	descs, err := layoutIndex(in)
	if err != nil {
		return nil, err
	}
	return descriptorNames(descs), nil
}

func descriptorNames(descs []v1.Descriptor) []string {
	var names []string
	for _, desc := range descs {
		if name := descriptorName(desc); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (a *Archive) openLayout(ref reference.Reference, opts Options) error {
	descs, err := layoutIndex(a.in)
	if err != nil {
		return err
	}
	desc, err := pick(descs, ref.Image, func(d v1.Descriptor) bool {
		return d.Annotations[ispec.AnnotationRefName] == ref.Image || descriptorName(d) == ref.Image || d.Digest.String() == strings.TrimPrefix(ref.Image, "@")
	}, descriptorNames(descs))
	if err != nil {
		return err
	}
	a.Name = descriptorName(desc)
	want, err := platformOf(opts)
	if err != nil {
		return err
	}
	raw, err := a.resolve(desc, want)
	if err != nil {
		return err
	}
	m, err := manifest.Parse(raw)
	if err != nil {
		return err
	}
	config, err := a.readBlob(m.Config, manifest.MaxConfigSize)
	if err != nil {
		return err
	}
	a.Image, err = manifest.New(raw, config, a.layoutBlob)
	return err
}

// resolve goes from an index to the manifest of a platform.
func (a *Archive) resolve(desc v1.Descriptor, want v1.Platform) ([]byte, error) {
	for range maxDepth {
		raw, err := a.readBlob(desc, manifest.MaxManifestSize)
		if err != nil {
			return nil, err
		}
		if !desc.MediaType.IsIndex() {
			return raw, nil
		}
		descs, err := parseIndex(raw)
		if err != nil {
			return nil, err
		}
		if desc, err = choose(descs, want); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: indexes lie in each other more than %d deep", manifest.ErrInvalid, maxDepth)
}

func choose(descs []v1.Descriptor, want v1.Platform) (v1.Descriptor, error) {
	var have []string
	for _, d := range descs {
		if d.Platform == nil && len(descs) == 1 || d.Platform != nil && d.Platform.Satisfies(want) {
			return d, nil
		}
		if d.Platform != nil {
			have = append(have, d.Platform.String())
		}
	}
	return v1.Descriptor{}, fmt.Errorf("%w for the platform %s; it is there for %s", ErrNotFound, want, strings.Join(have, ", "))
}

func (a *Archive) layoutBlob(desc v1.Descriptor) (manifest.Blob, error) {
	if err := manifest.CheckDigest(desc.Digest); err != nil {
		return nil, err
	}
	return openSized(a.in, ispec.ImageBlobsDir+"/"+desc.Digest.Algorithm+"/"+desc.Digest.Hex, desc)
}

// openSized opens a blob whose size is known.
func openSized(in files, name string, desc v1.Descriptor) (manifest.Blob, error) {
	blob, err := in.open(name)
	if err != nil {
		return nil, missing(err, name, "complete container")
	}
	if blob.Size() != desc.Size {
		blob.Close()
		return nil, fmt.Errorf("opening %s: %w: it has %d bytes where %d are expected", name, manifest.ErrInvalid, blob.Size(), desc.Size)
	}
	return blob, nil
}

// readBlob reads a small blob of a layout and checks its digest.
func (a *Archive) readBlob(desc v1.Descriptor, limit int64) ([]byte, error) {
	blob, err := a.layoutBlob(desc)
	if err != nil {
		return nil, err
	}
	return readChecked(blob, desc, limit)
}
