// Package manifest reads image manifests of strangers with bounds, brings Docker's form into the OCI's, and makes a [v1.Image] out of a
// manifest, a config and a way to open blobs. The store, the archives and podman's storage share it.
//
// Formats: OCI image-spec v1.1 manifest.md, Docker image manifest version 2 schema 2.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// How large metadata may be, in bytes. Registries accept manifests of 4 MiB; real ones have a few KiB.
const (
	MaxManifestSize = 4 << 20
	MaxConfigSize   = 16 << 20
	MaxLayers       = 4096
)

// ErrInvalid is in every error about a manifest, config or blob whose content breaks its format or is not what its digest says.
var ErrInvalid = errors.New("invalid image")

// Parse reads the manifest of one image. Its media type may be OCI's or Docker's schema 2. An index, a manifest that pretends to be both
// (CVE-2021-41190), unknown digests and negative sizes are errors that are [ErrInvalid].
func Parse(raw []byte) (*v1.Manifest, error) {
	if len(raw) > MaxManifestSize {
		return nil, fmt.Errorf("reading a manifest: %w: it has %d bytes, more than the %d allowed", ErrInvalid, len(raw), MaxManifestSize)
	}
	var m struct {
		v1.Manifest
		Manifests json.RawMessage `json:"manifests"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w: %w", ErrInvalid, err)
	}
	switch {
	case len(m.FSLayers) > 0 || m.SchemaVersion == 1:
		return nil, fmt.Errorf("reading a manifest: %w: it is of Docker's schema 1, which registries no longer serve; push the image anew", ErrInvalid)
	case len(m.Manifests) > 0:
		return nil, fmt.Errorf("reading a manifest: %w: it is an index of several images", ErrInvalid)
	case m.SchemaVersion != 2:
		return nil, fmt.Errorf("reading a manifest: %w: schema version %d, not 2", ErrInvalid, m.SchemaVersion)
	case m.MediaType != "" && !m.MediaType.IsImage():
		return nil, fmt.Errorf("reading a manifest: %w: media type %q", ErrInvalid, m.MediaType)
	case len(m.Layers) > MaxLayers:
		return nil, fmt.Errorf("reading a manifest: %w: it has %d layers, more than the %d allowed", ErrInvalid, len(m.Layers), MaxLayers)
	case m.Config.Size > MaxConfigSize:
		return nil, fmt.Errorf("reading a manifest: %w: its config has %d bytes, more than the %d allowed", ErrInvalid, m.Config.Size, MaxConfigSize)
	}
	for _, desc := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := CheckDigest(desc.Digest); err != nil {
			return nil, fmt.Errorf("reading a manifest: %w", err)
		}
		if desc.Size < 0 {
			return nil, fmt.Errorf("reading a manifest: %w: blob %s with the size %d", ErrInvalid, desc.Digest, desc.Size)
		}
	}
	return &m.Manifest, nil
}

// CheckDigest reports a digest that is not a complete sha256 one, the only algorithm that the store keeps and registries serve.
func CheckDigest(digest v1.Hash) error {
	if digest.Algorithm != "sha256" {
		return fmt.Errorf("%w: digest %q is not a sha256 one", ErrInvalid, digest)
	}
	if _, err := v1.NewHash(digest.String()); err != nil {
		return fmt.Errorf("%w: digest %q: %w", ErrInvalid, digest, err)
	}
	return nil
}

// ParseConfig reads an image's config.
func ParseConfig(raw []byte) (*v1.ConfigFile, error) {
	if len(raw) > MaxConfigSize {
		return nil, fmt.Errorf("reading an image config: %w: it has %d bytes, more than the %d allowed", ErrInvalid, len(raw), MaxConfigSize)
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("reading an image config: %w: %w", ErrInvalid, err)
	}
	return config, nil
}

// ociTypes gives the OCI's media type for each of Docker's.
func ociType(t types.MediaType) types.MediaType {
	switch t {
	case types.DockerManifestSchema2:
		return types.OCIManifestSchema1
	case types.DockerConfigJSON:
		return types.OCIConfigJSON
	case types.DockerLayer, types.DockerForeignLayer:
		return types.OCILayer
	case types.DockerUncompressedLayer:
		return types.OCIUncompressedLayer
	}
	return t
}

// ToOCI returns the manifest in the OCI's form: raw itself if it is one, else one with the same config and layers under the OCI's media types, in
// bytes that depend on raw alone.
func ToOCI(raw []byte) ([]byte, error) {
	m, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	docker := m.MediaType == types.DockerManifestSchema2 || m.Config.MediaType == types.DockerConfigJSON
	for _, layer := range m.Layers {
		docker = docker || ociType(layer.MediaType) != layer.MediaType
	}
	if !docker {
		return raw, nil
	}
	m.MediaType = types.OCIManifestSchema1
	m.Config.MediaType = ociType(m.Config.MediaType)
	for i := range m.Layers {
		m.Layers[i].MediaType = ociType(m.Layers[i].MediaType)
	}
	if m.Layers == nil {
		m.Layers = []v1.Descriptor{}
	}
	converted, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("converting a manifest to the OCI's form: %w", err)
	}
	return converted, nil
}
