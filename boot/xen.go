package boot

import (
	"fmt"
	"path/filepath"
	"strings"
)

// xenEnding is that of a guest's configuration for xl.
const xenEnding = ".xenconfig"

// explainGuest says of what boots nowhere by itself that it belongs to a guest of Xen, if a configuration for xl lies beside it whose name it shares.
func explainGuest(image string, err error) error {
	configs, globErr := filepath.Glob(filepath.Join(filepath.Dir(image), "*"+xenEnding))
	if globErr != nil {
		return err // a directory with a name that is a pattern
	}
	for _, config := range configs {
		if strings.HasPrefix(filepath.Base(image), strings.TrimSuffix(filepath.Base(config), xenEnding)) {
			return fmt.Errorf("%w; it belongs to a guest of Xen, which a Xen host starts by xl create -c %s", err, filepath.Base(config))
		}
	}
	return err
}
