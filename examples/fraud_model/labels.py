"""What the payments turned out to be, told days later by another program: python labels.py [number].

It needs nothing of the server but its state directory; `otelslo label` does the same from a file.
"""

from __future__ import annotations

import sys

from payments import payment, was_fraud

import otelslo

if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for n in range(number):
        otelslo.log_label("fraud", id=payment(n)["id"], truth=int(was_fraud(n)))
    print(f"{number} labels")
