



while true do end
