package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// dockerFile is where docker save says what its archive holds.
const dockerFile = "manifest.json"

// dockerImage is one image of a docker archive: an element of manifest.json.
type dockerImage struct {
	Config   string   // path of the image's config
	RepoTags []string // names
	Layers   []string // paths of the layers, lowest first
}

func dockerImages(in files) ([]dockerImage, error) {
	raw, err := readSmall(in, dockerFile, manifest.MaxManifestSize)
	if err != nil {
		return nil, missing(err, dockerFile, "archive of docker save 1.10 or later")
	}
	var images []dockerImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, fmt.Errorf("reading %s: %w: %w", dockerFile, manifest.ErrInvalid, err)
	}
	return images, nil
}

func dockerNames(in files) ([]string, error) {
	images, err := dockerImages(in)
	if err != nil {
		return nil, err
	}
	return tagsOf(images), nil
}

func tagsOf(images []dockerImage) []string {
	var names []string
	for _, i := range images {
		names = append(names, i.RepoTags...)
	}
	return names
}

// openDocker opens an image of a docker archive. REF is a name, which may leave out docker.io/library/ and :latest, or "@N" for the image of that
// number from 0 on, as in skopeo.
func (a *Archive) openDocker(ref reference.Reference) error {
	images, err := dockerImages(a.in)
	if err != nil {
		return err
	}
	var chosen dockerImage
	if n, err := strconv.Atoi(strings.TrimPrefix(ref.Image, "@")); err == nil && strings.HasPrefix(ref.Image, "@") && n >= 0 && n < len(images) {
		chosen = images[n]
	} else {
		chosen, err = pick(images, ref.Image, func(i dockerImage) bool {
			return slices.ContainsFunc(i.RepoTags, func(tag string) bool { return tag == ref.Image || hubName(tag) == hubName(ref.Image) })
		}, tagsOf(images))
		if err != nil {
			return err
		}
	}
	if len(chosen.RepoTags) > 0 {
		a.Name = chosen.RepoTags[0]
		if ref.Image != "" && !strings.HasPrefix(ref.Image, "@") {
			a.Name = ref.Image
		}
	}
	return a.loadDocker(chosen)
}

// hubName gives a name its full spelling on Docker Hub.
func hubName(name string) string {
	ref, err := reference.Parse(name)
	if err != nil {
		return name
	}
	if ref.Domain == "" {
		ref, err = ref.In(reference.DockerHub)
		if err != nil {
			return name
		}
	}
	return ref.WithDefaultTag().String()
}

// loadDocker makes a manifest for an image whose archive has none. A layer that is a plain tar has its diff id as its digest.
func (a *Archive) loadDocker(i dockerImage) error {
	rawConfig, err := readSmall(a.in, clean(i.Config), manifest.MaxConfigSize)
	if err != nil {
		return missing(err, i.Config, "complete container")
	}
	config, err := manifest.ParseConfig(rawConfig)
	if err != nil {
		return err
	}
	if len(config.RootFS.DiffIDs) != len(i.Layers) || len(i.Layers) > manifest.MaxLayers {
		return fmt.Errorf("%w: it has %d layers and its config %d", manifest.ErrInvalid, len(i.Layers), len(config.RootFS.DiffIDs))
	}
	sum, size, err := v1.SHA256(bytes.NewReader(rawConfig))
	if err != nil {
		return err
	}
	m := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.DockerManifestSchema2,
		Config:        v1.Descriptor{MediaType: types.DockerConfigJSON, Size: size, Digest: sum},
		Layers:        []v1.Descriptor{},
	}
	paths := map[v1.Hash]string{}
	for n, name := range i.Layers {
		desc, err := a.dockerLayer(clean(name), config.RootFS.DiffIDs[n])
		if err != nil {
			return err
		}
		m.Layers = append(m.Layers, desc)
		paths[desc.Digest] = clean(name)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	a.Image, err = manifest.New(raw, rawConfig, func(desc v1.Descriptor) (manifest.Blob, error) {
		return openSized(a.in, paths[desc.Digest], desc)
	})
	return err
}

func (a *Archive) dockerLayer(name string, diffID v1.Hash) (v1.Descriptor, error) {
	blob, err := a.in.open(name)
	if err != nil {
		return v1.Descriptor{}, missing(err, name, "complete container")
	}
	defer blob.Close()
	magic := make([]byte, 4)
	if _, err := blob.ReadAt(magic, 0); err != nil && err != io.EOF {
		return v1.Descriptor{}, fmt.Errorf("reading %s: %w", name, err)
	}
	desc := v1.Descriptor{MediaType: types.DockerUncompressedLayer, Size: blob.Size(), Digest: diffID}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		desc.MediaType = types.DockerLayer
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		desc.MediaType = types.OCILayerZStd
	default:
		return desc, nil
	}
	desc.Digest, _, err = v1.SHA256(io.NewSectionReader(blob, 0, blob.Size()))
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("reading %s: %w", name, err)
	}
	return desc, nil
}
