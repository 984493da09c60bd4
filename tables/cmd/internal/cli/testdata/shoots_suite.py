"""Runs shoots' own tests with our server instead of shoots': shoots_suite.py PROGRAM
CERT KEY PORT PORT PORT. The arguments replace the tests' certificate, which has expired,
and their ports, which may be in use."""
import inspect
import os
import subprocess
import sys
import tempfile
import unittest

import shoots

program, cert, key, *ports = sys.argv[1:]


class Server:
    """Starts our program. It has the constructor and methods of shoots' server."""

    def __init__(self, location, bucket_dir, certs=None, secret=None):
        flags = ["--listen", location.uri.decode(), "--bucket_dir", bucket_dir]
        for flag, pem in zip(("--cert_file", "--key_file"), certs or ()):
            file = os.path.join(tempfile.mkdtemp(dir="."), "pem")
            with open(file, "w") as f:
                f.write(pem)
            flags += [flag, file]
        if secret:
            flags += ["--secret", secret, "--print-token"]
        self.process = subprocess.Popen([program, "serve", *flags], stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if line.startswith("ready "):
                break
            self.token = line.strip()

    def generate_admin_jwt(self):
        return self.token

    def serve(self):
        self.process.wait()

    def shutdown(self):
        self.process.terminate()
        assert self.process.wait() == 0


shoots.ShootsServer = Server
sys.path.append(os.path.join(os.path.dirname(os.path.dirname(shoots.__file__)), "tests"))
import insecure_test  # noqa: E402
import jwt_test  # noqa: E402
import tls_test  # noqa: E402

suite = unittest.TestSuite()
for module, port in zip((insecure_test, tls_test, jwt_test), ports):
    for name, case in inspect.getmembers(module, inspect.isclass):
        if issubclass(case, unittest.TestCase) and name != "BaseTest":
            case.port = int(port)
            if hasattr(case, "server_cert"):
                case.server_cert = case.root_cert = open(cert).read()
                case.server_key = open(key).read()
            suite.addTest(unittest.defaultTestLoader.loadTestsFromTestCase(case))
sys.exit(not unittest.TextTestRunner().run(suite).wasSuccessful())
