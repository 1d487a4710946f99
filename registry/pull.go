package registry

import (
	"context"
	"fmt"

	"github.com/imgbuild/imgbuild/registry/reference"
)

func (c *Client) pull(_ context.Context, ref reference.Reference, _ FetchOptions) (*Image, error) {
	return nil, fmt.Errorf("looking for %s: %w", ref, ErrNotFound)
}
