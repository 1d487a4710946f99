package manifest

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// AsOCI returns an image whose manifest, config and layers have the media types of the OCI image-spec, because a manifest of Docker's schema 2
// can't name a zstd layer. The layers stay as they are. Nil gives an image without layers.
func AsOCI(img v1.Image) (v1.Image, error) {
	fresh := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img == nil {
		return fresh, nil
	}
	mediaType, err := img.MediaType()
	if err != nil || mediaType == types.OCIManifestSchema1 {
		return img, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	all, err := img.Layers()
	if err != nil {
		return nil, err
	}
	additions := make([]mutate.Addendum, len(all))
	for i, layer := range all {
		kind, err := layer.MediaType()
		if err != nil {
			return nil, err
		}
		additions[i] = mutate.Addendum{Layer: layer, MediaType: ociType(kind)}
	}
	image, err := mutate.Append(fresh, additions...)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, config)
}
